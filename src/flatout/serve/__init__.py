"""The gateway: clients of any language send their calls here, and flatout paces, retries, caches and bills them.

Callers wait in front of the engine, in the `gate`: the engine has only a few calls that wait, so the gate decides who
goes next. It is fair between callers, and drops whoever hangs up.

- `listen` serves until it is told to stop, and keeps the gateway's run file;
- `site` says what each address does, and `guard` who may ask;
- `calls` answers calls, `models` says which model a name means;
- `keys` keeps the local keys, `callers` what each caller may do and has done, `loans` the money of its budget;
- `gate` lets calls go;
- `files` and `batches` are OpenAI's batches: `batch_input` reads one, `batch_work` does it, its `batch_rows` live or in
  the provider's own `batch_lane`;
- `counting` counts tokens, and `offered` lists what the providers have;
- `status` tells how things stand.
"""
