"""Writes held-out text (JSON lines: messages, or a text) for measuring perplexity: the corpus's generator with another seed.

`python3 held_out.py > ../held-out.jsonl`
"""
import json
import random

import corpus

SEED = 20_261_121
LONG_CHATS = 30
DOCUMENTS = 150
# About 480 tokens of the demo models, whose context is 512.
LONG_CHAT_CHARACTERS = 1_650


def long_chat(rng):
    doc = {"system": None, "turns": []}
    while True:
        more = corpus.c_mixed(rng)[:2]
        if len(corpus.chatml({**doc, "turns": doc["turns"] + more})) > LONG_CHAT_CHARACTERS:
            return doc
        doc["turns"] += more


def line(doc):
    if "text" in doc:
        return {"text": doc["text"]}
    messages = [{"role": "system", "content": doc["system"]}] if doc.get("system") else []
    for user, assistant in doc["turns"]:
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"messages": messages}


rng = random.Random(SEED)
for count, make in ((LONG_CHATS, long_chat), (DOCUMENTS, corpus.document)):
    for _ in range(count):
        print(json.dumps(line(make(rng)), ensure_ascii=False))
