// Reads one slow stream with an npm client whose patience is limited: node idle_timers.mjs MODULES CLIENT BASE PATIENCE_MS
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, client, base, patience] = process.argv.slice(2);
const require = createRequire(modules + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const messages = [{ role: "user", content: "hello" }];
const timeout = Number(patience);
const quiet = { maxRetries: 0, apiKey: "k", timeout };

// An agent's own timer: it counts what the SDK gives out, and gives up when nothing came for so long.
async function watched(stream, each) {
  const parts = stream[Symbol.asyncIterator]();
  for (;;) {
    let timer;
    const late = new Promise((_, no) => (timer = setTimeout(() => no(new Error("idle")), timeout)));
    const { done, value } = await Promise.race([parts.next(), late]);
    clearTimeout(timer);
    if (done) return;
    each(value);
  }
}

const clients = {
  async "openai-node chat"() {
    const { default: OpenAI } = await load("openai");
    let end;
    const stream = await new OpenAI({ ...quiet, baseURL: `${base}/v1` }).chat.completions.create({ model: "chat", stream: true, messages });
    await watched(stream, (chunk) => (end = chunk.choices[0]?.finish_reason ?? end));
    return end;
  },
  async "openai-node responses"() {
    const { default: OpenAI } = await load("openai");
    let end;
    const stream = await new OpenAI({ ...quiet, baseURL: `${base}/v1` }).responses.create({ model: "responses", stream: true, input: "hello" });
    await watched(stream, (event) => (end = event.type));
    return end === "response.completed" && end;
  },
  async "anthropic-node messages"() {
    const { default: Anthropic } = await load("@anthropic-ai/sdk");
    let end;
    const stream = await new Anthropic({ ...quiet, baseURL: base }).messages.create({ model: "messages", max_tokens: 99, stream: true, messages });
    for await (const event of stream) end = event.type; // the SDK keeps pings to itself: its events are no measure of silence
    return end === "message_stop" && end;
  },
  async "ai-openai-compatible chat"() {
    const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
    return vercel(createOpenAICompatible({ name: "gw", apiKey: "k", baseURL: `${base}/v1` })("chat"));
  },
};

async function vercel(model) {
  const { streamText } = await load("ai");
  let end;
  for await (const part of streamText({ model, messages, maxRetries: 0, timeout: { chunkMs: timeout }, onError: () => {} }).fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "abort") throw new Error("idle");
    if (part.type === "finish") end = part.finishReason;
  }
  return end;
}

try {
  console.log(JSON.stringify({ end: (await clients[client]()) || null }));
} catch (error) {
  console.log(JSON.stringify({ error: `${error.name}: ${error.message}`.slice(0, 120) }));
}
process.exit(0);
