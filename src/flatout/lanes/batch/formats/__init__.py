"""One codec a provider for batch endpoints. They are pure: values to requests, and bytes to values."""
