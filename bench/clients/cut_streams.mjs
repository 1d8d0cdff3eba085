// Reads streams that are cut at every byte, with the npm clients as people use them.
//   node cut_streams.mjs MODULES CLIENT BASE     offsets on standard input, one a line; writes "OFFSET whole|unfinished|error" for each
// BASE/OFFSET is where the stream is cut there. MODULES is a folder whose node_modules holds the packages.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

globalThis.AI_SDK_LOG_WARNINGS = false;
const [modules, client, base] = process.argv.slice(2);
const require = createRequire(modules + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const messages = [{ role: "user", content: "hello" }];
const quiet = { maxRetries: 0, apiKey: "k" };

const clients = {
  async "openai-node"() {
    const { default: OpenAI } = await load("openai");
    return async (at) => {
      const sdk = new OpenAI({ ...quiet, baseURL: `${base}/${at}/v1` });
      let end = null;
      for await (const chunk of await sdk.chat.completions.create({ model: "m", stream: true, messages }))
        end = chunk.choices[0]?.finish_reason ?? end;
      return end !== null;
    };
  },
  async "openai-node-responses"() {
    const { default: OpenAI } = await load("openai");
    return async (at) => {
      const sdk = new OpenAI({ ...quiet, baseURL: `${base}/${at}/v1` });
      let end = false;
      for await (const event of await sdk.responses.create({ model: "m", stream: true, input: "hello" }))
        end ||= event.type === "response.completed" || event.type === "response.incomplete";
      return end;
    };
  },
  async "anthropic-node"() {
    const { default: Anthropic } = await load("@anthropic-ai/sdk");
    return async (at) => {
      const sdk = new Anthropic({ ...quiet, baseURL: `${base}/${at}` });
      return Boolean((await sdk.messages.stream({ model: "m", max_tokens: 99, messages }).finalMessage()).stop_reason);
    };
  },
  async "ai-openai-compatible"() {
    const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
    return vercel((at) => createOpenAICompatible({ name: "gw", apiKey: "k", baseURL: `${base}/${at}/v1` })("m"));
  },
  async "ai-openai-responses"() {
    const { createOpenAI } = await load("@ai-sdk/openai");
    return vercel((at) => createOpenAI({ apiKey: "k", baseURL: `${base}/${at}/v1` }).responses("m"));
  },
  async "ai-anthropic"() {
    const { createAnthropic } = await load("@ai-sdk/anthropic");
    return vercel((at) => createAnthropic({ apiKey: "k", baseURL: `${base}/${at}/v1` })("m"));
  },
};

async function vercel(model) {
  const { streamText } = await load("ai");
  return async (at) => {
    const found = streamText({ model: model(at), prompt: "hello", maxRetries: 0, onError: () => {} });
    let end = "none";
    for await (const part of found.fullStream) {
      if (part.type === "error") throw part.error;
      if (part.type === "finish") end = part.finishReason;
    }
    return end === "stop" || end === "tool-calls" || end === "length";
  };
}

const read = await clients[client]();
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function work() {
  for (let next = await lines.next(); !next.done; next = await lines.next()) {
    const at = Number(next.value);
    let told;
    try {
      told = (await read(at)) ? "whole" : "unfinished";
    } catch (error) {
      told = "error";
    }
    console.log(`${at} ${told}`);
  }
}
process.on("unhandledRejection", () => {});
await Promise.all(Array.from({ length: 8 }, work));
