"""Ceilings for one request: a panel of three with two calls allowed answers with what it has, and says so."""

import json
import os
from urllib.request import urlopen

from openai import OpenAI

url = os.environ.get("STRETTO_URL", "http://127.0.0.1:8700/v1")
answer = OpenAI(base_url=url, api_key="none").chat.completions.create(
    model="fuse",
    messages=[{"role": "user", "content": "How much is 17 plus 25?"}],
    extra_body={"stretto": {"limits": {"calls": 2, "usd": 0.05}, "require": {"licence": "apache-2.0"}}},
)
print(answer.choices[0].message.content, "|", answer.stretto["why"])
with urlopen(f"{url}/runs/{answer.stretto['run_id']}") as response:
    receipt = json.load(response)
print(receipt["calls"], "calls made;", receipt["refused"][0]["error"]["message"])
