// OpenAI's and Anthropic's npm clients and the Vercel AI SDK, each put through every feature, as sdks_drive.py does for Python.
//   node node_drive.mjs CLIENT MODULES     reads cases from standard input, one JSON object a line, and writes what became of each
// MODULES is a folder whose node_modules holds the packages of node/package.json.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [client, modules] = process.argv.slice(2);
const require = createRequire(modules + "/");
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const CITIES = ["Rome", "Oslo"];
const QUESTION = "What is the weather in Rome and in Oslo?";
const ASKS = "Describe the city of Rome.";
const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string", enum: CITIES } },
  required: ["city"],
  additionalProperties: false,
};
const CITY = {
  type: "object",
  properties: { name: { type: "string", enum: CITIES }, population: { type: "integer" } },
  required: ["name", "population"],
  additionalProperties: false,
};
const WEATHER = { type: "function", function: { name: "weather", description: "The weather in a city.", parameters: PARAMETERS } };

const check = (holds, what) => {
  if (!holds) throw new Error(what);
};
const result = (city) => `sunny in ${city}, 25 degrees`;

function spoke(c, text, finish, ends = ["stop"]) {
  check(typeof text === "string" && text.includes(c.says), `${c.says} is not in ${String(text).slice(0, 200)}`);
  check(finish === undefined || ends.includes(finish), `finished by ${finish}`);
}
function counted(c, given, written, total) {
  check(given > 0 && written > 0, `usage ${given}, ${written}`);
  if (c.usage) check(given === c.usage[0] && written === c.usage[1], `usage ${given}, ${written}, not ${c.usage}`);
  if (total !== undefined) check(total === given + written, `total ${total}, not ${given} + ${written}`);
}
function called(c, calls) {
  check(calls.length > 0, "no call");
  const cities = calls.map(({ id, name, input }) => {
    const read = typeof input === "string" ? JSON.parse(input) : input;
    check(id && name === "weather", `called ${name} under ${id}`);
    check(CITIES.includes(read.city) && Object.keys(read).length === 1, `arguments ${JSON.stringify(read)}`);
    return read.city;
  });
  check(new Set(calls.map((each) => each.id)).size === calls.length, "ids are not unique");
  if (c.echoes) check(String(cities) === String(CITIES), `called for ${cities}`);
  return cities;
}
function described(c, city) {
  check(CITIES.includes(city.name) && Number.isInteger(city.population), `city ${JSON.stringify(city)}`);
  if (c.echoes) check(city.name === "Rome", `name ${city.name}`);
}
function concluded(c, text, cities) {
  for (const part of c.echoes ? cities.map(result) : [c.concludes])
    check(typeof text === "string" && text.includes(part), `${part} is not in ${String(text).slice(0, 200)}`);
}
async function all(stream) {
  const found = [];
  for await (const each of stream) found.push(each);
  return found;
}

async function citySchema() {
  const { z } = await load("zod");
  return z.object({ name: z.enum(CITIES), population: z.number().int() });
}

async function openaiChat(c) {
  const { default: OpenAI } = await load("openai");
  const api = new OpenAI({ baseURL: `${c.base}/v1`, apiKey: c.key, maxRetries: 0, timeout: 60000 }).chat.completions;
  const user = (content) => ({ role: "user", content });
  const callsOf = (message) => (message.tool_calls ?? []).map((t) => ({ id: t.id, name: t.function.name, input: t.function.arguments }));
  return {
    async chat() {
      const found = await api.create({ model: c.model, messages: [user(c.prompt)] });
      spoke(c, found.choices[0].message.content, found.choices[0].finish_reason);
      counted(c, found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens);
      check(found.model === c.model && found.id, "model or id");
    },
    async stream() {
      const chunks = await all(
        await api.create({ model: c.model, messages: [user(c.prompt)], stream: true, stream_options: { include_usage: true } }),
      );
      spoke(c, chunks.map((each) => each.choices[0]?.delta?.content ?? "").join(""));
      const ends = chunks.map((each) => each.choices[0]?.finish_reason).filter(Boolean);
      check(String(ends) === "stop", `finish reasons ${ends}`);
      const usages = chunks.map((each) => each.usage).filter(Boolean);
      check(usages.length === 1, `${usages.length} usage chunks`);
      counted(c, usages[0].prompt_tokens, usages[0].completion_tokens, usages[0].total_tokens);
      check(new Set(chunks.map((each) => each.id)).size === 1, "ids");
    },
    async tools() {
      const wanted = { model: c.model, messages: [user(QUESTION)], tools: [WEATHER] };
      const found = await api.create({ ...wanted, tool_choice: { type: "function", function: { name: "weather" } } });
      called(c, callsOf(found.choices[0].message));
      const last = await api.stream({ ...wanted, tool_choice: "required" }).finalChatCompletion();
      check(last.choices[0].finish_reason === "tool_calls", last.choices[0].finish_reason);
      called(c, callsOf(last.choices[0].message));
    },
    async structured() {
      const { zodResponseFormat } = await load("openai/helpers/zod");
      const form = zodResponseFormat(await citySchema(), "city");
      const wanted = { model: c.model, messages: [user(ASKS)], response_format: form };
      described(c, (await api.parse(wanted)).choices[0].message.parsed);
      described(c, (await api.stream(wanted).finalChatCompletion()).choices[0].message.parsed);
    },
    async turns() {
      const messages = [user(QUESTION)];
      const asked = (await api.create({ model: c.model, messages, tools: [WEATHER] })).choices[0].message;
      const calls = callsOf(asked);
      const cities = called(c, calls);
      messages.push(asked, ...calls.map((t, i) => ({ role: "tool", tool_call_id: t.id, content: result(cities[i]) })));
      const last = (await api.create({ model: c.model, messages, tools: [WEATHER] })).choices[0].message;
      concluded(c, last.content, cities);
      messages.push(last, user(c.prompt));
      spoke(c, (await api.create({ model: c.model, messages })).choices[0].message.content);
    },
  };
}

async function openaiResponses(c) {
  const { default: OpenAI } = await load("openai");
  const api = new OpenAI({ baseURL: `${c.base}/v1`, apiKey: c.key, maxRetries: 0, timeout: 60000 }).responses;
  const tool = { type: "function", ...WEATHER.function, strict: true };
  const callsOf = (found) =>
    found.output.filter((item) => item.type === "function_call").map((t) => ({ id: t.call_id, name: t.name, input: t.arguments }));
  const usage = (found) => counted(c, found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens);
  return {
    async chat() {
      const found = await api.create({ model: c.model, input: c.prompt });
      spoke(c, found.output_text);
      check(found.status === "completed" && found.model === c.model, found.status);
      usage(found);
    },
    async stream() {
      const events = await all(await api.create({ model: c.model, input: c.prompt, stream: true }));
      const final = events.at(-1);
      check(final.type === "response.completed", final.type);
      check(events.every((each, at) => at === 0 || each.sequence_number > events[at - 1].sequence_number), "sequence numbers");
      spoke(c, events.map((each) => (each.type === "response.output_text.delta" ? each.delta : "")).join(""));
      usage(final.response);
    },
    async tools() {
      const wanted = { model: c.model, input: QUESTION, tools: [tool] };
      called(c, callsOf(await api.create({ ...wanted, tool_choice: { type: "function", name: "weather" } })));
      called(c, callsOf(await api.stream({ ...wanted, tool_choice: "required" }).finalResponse()));
    },
    async structured() {
      const { zodTextFormat } = await load("openai/helpers/zod");
      const text = { format: zodTextFormat(await citySchema(), "city") };
      described(c, (await api.parse({ model: c.model, input: ASKS, text })).output_parsed);
      described(c, (await api.stream({ model: c.model, input: ASKS, text }).finalResponse()).output_parsed);
    },
    async turns() {
      for (const store of [false, true]) {
        const wanted = { model: c.model, tools: [tool] };
        const first = await api.create({ ...wanted, input: QUESTION, store });
        const calls = callsOf(first);
        const cities = called(c, calls);
        const results = calls.map((t, i) => ({ type: "function_call_output", call_id: t.id, output: result(cities[i]) }));
        const told = store
          ? await api.create({ ...wanted, input: results, previous_response_id: first.id })
          : await api.create({ ...wanted, input: [{ role: "user", content: QUESTION }, ...first.output, ...results], store });
        concluded(c, told.output_text, cities);
      }
    },
  };
}

async function anthropic(c) {
  const { default: Anthropic } = await load("@anthropic-ai/sdk");
  const api = new Anthropic({ baseURL: c.base, apiKey: c.key, maxRetries: 0, timeout: 60000 }).messages;
  const tool = { name: "weather", description: "The weather.", input_schema: PARAMETERS };
  const base = { model: c.model, max_tokens: 400 };
  const user = (content) => ({ role: "user", content });
  const textOf = (found) => found.content.map((block) => block.text ?? "").join("");
  const callsOf = (found) => found.content.filter((block) => block.type === "tool_use");
  const whole = (found) => {
    spoke(c, textOf(found), found.stop_reason, ["end_turn"]);
    counted(c, found.usage.input_tokens, found.usage.output_tokens);
    check(found.model === c.model && found.id.startsWith("msg_"), `${found.model} ${found.id}`);
  };
  return {
    async chat() {
      whole(await api.create({ ...base, messages: [user(c.prompt)] }));
    },
    async stream() {
      whole(await api.stream({ ...base, messages: [user(c.prompt)] }).finalMessage());
    },
    async tools() {
      const wanted = { ...base, messages: [user(QUESTION)], tools: [tool] };
      called(c, callsOf(await api.create({ ...wanted, tool_choice: { type: "tool", name: "weather" } })));
      const last = await api.stream({ ...wanted, tool_choice: { type: "any" } }).finalMessage();
      check(last.stop_reason === "tool_use", last.stop_reason);
      called(c, callsOf(last));
    },
    async structured() {
      const output_config = { format: { type: "json_schema", schema: CITY } };
      described(c, JSON.parse(textOf(await api.create({ ...base, messages: [user(ASKS)], output_config }))));
    },
    async turns() {
      const asked = await api.create({ ...base, messages: [user(QUESTION)], tools: [tool] });
      const calls = callsOf(asked);
      const cities = called(c, calls);
      const results = calls.map((t, i) => ({ type: "tool_result", tool_use_id: t.id, content: result(cities[i]) }));
      const messages = [user(QUESTION), { role: "assistant", content: asked.content }, user(results)];
      const last = await api.create({ ...base, messages, tools: [tool] });
      concluded(c, textOf(last), cities);
      messages.push({ role: "assistant", content: textOf(last) }, user(c.prompt));
      spoke(c, textOf(await api.create({ ...base, messages })));
    },
  };
}

const ai = (providerOf) => async (c) => {
  const { generateText, streamText, generateObject, streamObject, tool, stepCountIs } = await load("ai");
  const { z } = await load("zod");
  const model = await providerOf(c);
  const base = { model, maxRetries: 0 };
  const schema = await citySchema();
  const tools = (seen) => ({
    weather: tool({
      description: "The weather in a city.",
      inputSchema: z.object({ city: z.enum(["Rome", "Oslo"]) }),
      execute: async ({ city }) => (seen.push(city), result(city)),
    }),
  });
  const plain = { weather: tool({ description: "The weather in a city.", inputSchema: z.object({ city: z.enum(["Rome", "Oslo"]) }) }) };
  const callsOf = (calls) => calls.map((t) => ({ id: t.toolCallId, name: t.toolName, input: t.input }));
  return {
    async chat() {
      const found = await generateText({ ...base, prompt: c.prompt });
      spoke(c, found.text, found.finishReason);
      counted(c, found.usage.inputTokens, found.usage.outputTokens);
    },
    async stream() {
      const found = streamText({ ...base, prompt: c.prompt, onError: () => {} });
      const parts = await all(found.fullStream);
      const error = parts.find((part) => part.type === "error");
      check(!error, `an error part: ${error?.error}`);
      spoke(c, await found.text, await found.finishReason);
      const usage = await found.usage;
      counted(c, usage.inputTokens, usage.outputTokens);
    },
    async tools() {
      const wanted = { ...base, prompt: QUESTION, tools: plain };
      const found = await generateText({ ...wanted, toolChoice: { type: "tool", toolName: "weather" } });
      called(c, callsOf(found.toolCalls));
      const streamed = streamText({ ...wanted, toolChoice: "required", onError: () => {} });
      await all(streamed.fullStream);
      check((await streamed.finishReason) === "tool-calls", await streamed.finishReason);
      called(c, callsOf(await streamed.toolCalls));
    },
    async structured() {
      described(c, (await generateObject({ ...base, prompt: ASKS, schema })).object);
      const streamed = streamObject({ ...base, prompt: ASKS, schema, onError: () => {} });
      await all(streamed.partialObjectStream);
      described(c, await streamed.object);
    },
    async turns() {
      const seen = [];
      const found = await generateText({ ...base, prompt: QUESTION, tools: tools(seen), stopWhen: stepCountIs(3) });
      check(found.steps.length === 2 && seen.length > 0, `${found.steps.length} steps, ${seen.length} calls`);
      concluded(c, found.text, seen);
      const streamed = streamText({ ...base, prompt: QUESTION, tools: tools(seen), stopWhen: stepCountIs(3), onError: () => {} });
      concluded(c, await streamed.text, seen.slice(seen.length / 2));
      const messages = [{ role: "user", content: QUESTION }, ...found.response.messages, { role: "user", content: c.prompt }];
      spoke(c, (await generateText({ ...base, messages })).text);
    },
  };
};

const CLIENTS = {
  "openai-node": openaiChat,
  "openai-node-responses": openaiResponses,
  "anthropic-node": anthropic,
  "ai-openai-compatible": ai(async (c) => {
    const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
    const more = { includeUsage: true, supportsStructuredOutputs: true };
    return createOpenAICompatible({ name: "stretto", baseURL: `${c.base}/v1`, apiKey: c.key, ...more })(c.model);
  }),
  "ai-openai-responses": ai(async (c) => {
    const { createOpenAI } = await load("@ai-sdk/openai");
    return createOpenAI({ baseURL: `${c.base}/v1`, apiKey: c.key }).responses(c.model);
  }),
  "ai-anthropic": ai(async (c) => {
    const { createAnthropic } = await load("@ai-sdk/anthropic");
    return createAnthropic({ baseURL: `${c.base}/v1`, apiKey: c.key })(c.model);
  }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { feature, ...c } = JSON.parse(line);
  const begun = performance.now();
  let why = "";
  try {
    const made = await CLIENTS[client](c);
    await made[feature]();
  } catch (error) {
    why = `${error?.name ?? "Error"}: ${error?.message ?? error}`.replaceAll("\n", " ").slice(0, 600);
    console.error(error);
  }
  const told = { ok: !why, why, seconds: Math.round(performance.now() - begun) / 1000 };
  console.log(JSON.stringify({ cell: true, feature, policy: c.policy, ...told }));
}
