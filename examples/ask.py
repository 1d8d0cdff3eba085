"""The OpenAI SDK against a gateway. The `stretto` block of the answer says who served it, why, and for how much."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("STRETTO_URL", "http://127.0.0.1:8700/v1"), api_key="none")
answer = client.chat.completions.create(
    model="fuse",
    messages=[{"role": "user", "content": "Convert 45 to binary."}],
    temperature=0,
)
print(answer.choices[0].message.content)
print(answer.stretto["why"], answer.stretto["cost_usd"], answer.stretto["receipt"])
