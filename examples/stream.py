"""An answer as it comes. `route` ends in one ask that streams live; a panel's answer comes whole, once it is known."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("STRETTO_URL", "http://127.0.0.1:8700/v1"), api_key="none")
question = {"role": "user", "content": "Spell the word planet backward."}
for chunk in client.chat.completions.create(
    model="route",
    messages=[question],
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
):
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    else:
        print("\n", chunk.usage.completion_tokens, "tokens")
