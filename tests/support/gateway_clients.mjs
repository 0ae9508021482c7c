// The vendors' SDKs of Node, and LangChain, as clients of a gateway, whose address is given. Prints what came of it, as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.cwd()}/`);
const load = async (name) => await import(pathToFileURL(require.resolve(name)));
const { default: OpenAI } = await load("openai");
const { default: Anthropic } = await load("@anthropic-ai/sdk");
const { ChatOpenAI, OpenAIEmbeddings } = await load("@langchain/openai");
const { z } = await load("zod");

const url = process.argv[2];
const messages = [{ role: "user", content: "Spam or ham?" }];
const schema = { type: "object", properties: { label: { type: "string" } }, required: ["label"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "label", description: "Labels a mail.", parameters: schema } }];
const called = { type: "function", function: { name: "label" } };
const ai = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const claude = new Anthropic({ baseURL: url.replace(/\/v1$/, ""), apiKey: "none", maxRetries: 0 });
const told = {};

// OpenAI
told.chat = Boolean((await ai.chat.completions.create({ model: "any", messages })).choices[0].message.content);
let text = "";
for await (const chunk of await ai.chat.completions.create({ model: "any", messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
told.stream = text.length > 10;
const tool = await ai.chat.completions.create({ model: "any", messages, tools, tool_choice: called });
told.tool = "label" in JSON.parse(tool.choices[0].message.tool_calls[0].function.arguments);
const pieces = ai.chat.completions.stream({ model: "any", messages, tools, tool_choice: called });
told.tool_stream = (await pieces.finalChatCompletion()).choices[0].message.tool_calls[0].function.name;
told.responses = (await ai.responses.create({ model: "any", input: "Spam or ham?" })).output_text.length > 10;
const events = [];
for await (const event of await ai.responses.create({ model: "any", input: "Spam or ham?", stream: true })) {
  events.push(event.type);
}
told.responses_stream = events.at(-1);
told.embeddings = (await ai.embeddings.create({ model: "any", input: "a" })).data[0].embedding.length > 1;
told.models = (await ai.models.list()).data.map((model) => model.id);
told.refused = await ai.chat.completions.create({ model: "another", messages }).catch((error) => error.constructor.name);

// Anthropic
told.messages = Boolean((await claude.messages.create({ model: "any", max_tokens: 50, messages })).content[0].text);
const streamed = await claude.messages.stream({ model: "any", max_tokens: 50, messages }).finalMessage();
told.messages_stream = streamed.content[0].text.length > 10;
const asked = { model: "any", max_tokens: 50, messages, tools: [{ name: "label", input_schema: schema }] };
const used = await claude.messages.stream({ ...asked, tool_choice: { type: "tool", name: "label" } }).finalMessage();
told.messages_tool = used.content.at(-1).type;
told.count = (await claude.messages.countTokens({ model: "any", messages })).input_tokens > 0;

// LangChain
const options = { model: "any", apiKey: "none", maxRetries: 0, configuration: { baseURL: url } };
const chain = new ChatOpenAI(options);
told.langchain = (await chain.invoke("Spam or ham?")).content.length > 10;
text = "";
for await (const chunk of await chain.stream("Spam or ham?")) {
  text += chunk.content;
}
told.langchain_stream = text.length > 10;
const label = z.object({ label: z.string() });
const bound = chain.bindTools([{ name: "label", description: "Labels a mail.", schema: label }], { tool_choice: "label" });
told.langchain_tool = (await bound.invoke("Spam or ham?")).tool_calls[0].name;
told.langchain_output = typeof (await chain.withStructuredOutput(label).invoke("Spam or ham?")).label;
told.langchain_batch = (await chain.batch(["a", "b", "c"])).length;
told.langchain_embeddings = (await new OpenAIEmbeddings(options).embedQuery("a")).length > 1;
console.log(JSON.stringify(told));
