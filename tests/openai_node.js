// OpenAI's client for Node.js against a gateway: node openai_node.js FOLDER_OF_THE_PACKAGE BASE_URL MODEL EMBEDDING
// Writes what it saw as one line of JSON.
const [folder, baseURL, model, embedding] = process.argv.slice(2);
const { OpenAI } = require(folder);

async function main() {
  const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
  const messages = [{ role: "user", content: "Hi" }];
  const options = { model, messages, max_tokens: 12, temperature: 0 };
  const seen = { models: [] };
  for await (const one of client.models.list()) seen.models.push(one.id);
  const { data, response } = await client.chat.completions.create(options).withResponse();
  seen.text = data.choices[0].message.content;
  seen.version = response.headers.get("x-brogue-version");
  const stream = await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } });
  seen.streamed = "";
  for await (const chunk of stream) {
    seen.streamed += chunk.choices[0]?.delta?.content ?? "";
    seen.usage = chunk.usage ?? seen.usage;
  }
  const vectors = await client.embeddings.create({ model: embedding, input: ["a b", "c"] });
  seen.dimensions = vectors.data.map((one) => one.embedding.length);
  const first = await client.responses.create({ model, input: "Hi", max_output_tokens: 12 });
  const next = await client.responses.create({ model, input: "And?", previous_response_id: first.id, max_output_tokens: 12 });
  seen.responses = [first.output_text, next.previous_response_id === first.id];
  try {
    await client.chat.completions.create({ ...options, model: "no-such-model" });
  } catch (error) {
    seen.error = [error.constructor.name, error.status, error.code];
  }
  console.log(JSON.stringify(seen));
}

main();
