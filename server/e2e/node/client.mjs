// The official Node SDK against a running gateway (LLAMERO_URL, LLAMERO_ALIAS).
import assert from "node:assert/strict";
import OpenAI from "openai";

const model = process.env.LLAMERO_ALIAS;
const client = new OpenAI({ baseURL: process.env.LLAMERO_URL + "/v1", apiKey: "none", maxRetries: 0, timeout: 120_000 });
const params = (content, extra = {}) => ({
  model, messages: [{ role: "user", content }], temperature: 0, max_completion_tokens: 16, ...extra,
});
const ask = (content, extra) => client.chat.completions.create(params(content, extra));

const tests = {
  async completion() {
    const r = await client.completions.create({ model, prompt: "The capital of France is", max_tokens: 4, temperature: 0 });
    assert.match(r.choices[0].text, /Paris/);
    assert.equal(r.usage.completion_tokens, 4);
  },

  async streamed() {
    const whole = await ask("Name three animals.");
    let text = "", finish = null, usage = null;
    for await (const chunk of await ask("Name three animals.", { stream: true, stream_options: { include_usage: true } })) {
      usage = chunk.usage ?? usage;
      for (const choice of chunk.choices) {
        text += choice.delta.content ?? "";
        finish = choice.finish_reason ?? finish;
      }
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  },

  async helper() {
    const stream = client.chat.completions.stream(params("Name three animals.", { n: 2 }));
    const whole = await stream.finalChatCompletion();
    assert.equal(whole.choices.length, 2);
    assert.equal(whole.choices[0].message.role, "assistant");
  },

  async logprobs() {
    const r = await ask("Count to five.", { logprobs: true, top_logprobs: 2 });
    const { content } = r.choices[0].logprobs;
    assert.equal(content.length, r.usage.completion_tokens);
    assert.equal(content.map((t) => t.token).join(""), r.choices[0].message.content);
  },

  async stop() {
    const { choices: [{ message: { content } }] } = await ask("Write a list of fruits.");
    const word = content.slice(5, 8);
    const r = await ask("Write a list of fruits.", { stop: ["\u0000never", word] });
    assert.equal(r.choices[0].message.content, content.slice(0, content.indexOf(word)));
    assert.equal(r.choices[0].finish_reason, "stop");
  },

  async errors() {
    await assert.rejects(ask("x", { model: "none" }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
    await assert.rejects(ask("x", { temperature: -1 }), (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature");
    await assert.rejects(ask("x", { n: 100_000 }), (e) => e instanceof OpenAI.BadRequestError && e.param === "n");
  },

  async abort() {
    const stream = await ask("Tell me a long story.", { stream: true, max_completion_tokens: 512 });
    for await (const _ of stream) {
      stream.controller.abort();
      break;
    }
    assert.ok((await ask("Hi.", { max_completion_tokens: 1 })).choices.length);
  },
};

for (const [name, test] of Object.entries(tests)) {
  console.log(name);
  await test();
}
console.log("ok");
