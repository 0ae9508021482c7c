// The vendors' SDKs of Node as clients of a gateway, whose address is given. Prints what came of it, as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const load = async (name) => (await import(pathToFileURL(require.resolve(name)))).default;
const OpenAI = await load("openai");
const Anthropic = await load("@anthropic-ai/sdk");

const url = process.argv[2];
const messages = [{ role: "user", content: "Spam or ham?" }];
const ai = new (OpenAI.OpenAI ?? OpenAI)({ baseURL: url, apiKey: "none", maxRetries: 0 });
const claude = new (Anthropic.Anthropic ?? Anthropic)({ baseURL: url.replace(/\/v1$/, ""), apiKey: "none", maxRetries: 0 });
const told = {};

told.chat = Boolean((await ai.chat.completions.create({ model: "any", messages })).choices[0].message.content);
let text = "";
for await (const chunk of await ai.chat.completions.create({ model: "any", messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
told.stream = text.length > 10;
told.messages = Boolean((await claude.messages.create({ model: "any", max_tokens: 50, messages })).content[0].text);
const streamed = await claude.messages.stream({ model: "any", max_tokens: 50, messages }).finalMessage();
told.messages_stream = streamed.content[0].text.length > 10;
console.log(JSON.stringify(told));
