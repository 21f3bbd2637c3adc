"""Renders conversations with Hugging Face transformers, for parity_test.go.

Standard input is a JSON object:
  gguf           a GGUF file whose template joins the others as "gguf"
  templates      name -> template source
  conversations  each with messages, tools (or null), add_generation_prompt, extra
  now            the time for strftime_now, ISO 8601
Standard output is a JSON object: name -> {source, bos, eos, results}, a result
being {"text"} or, where the template refused or failed, {"error", "refused"}.

Further templates are taken from unsloth's source, which is read and not imported.
"""

import ast
import importlib.util
import json
import os
import struct
import sys
from datetime import datetime

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from jinja2.exceptions import TemplateError  # noqa: E402
from transformers.utils import chat_template_utils  # noqa: E402

BOS, EOS = "<s>", "</s>"


def from_gguf(path):
    """Finds the template in a GGUF's metadata, which come first in the file."""
    key = b"tokenizer.chat_template"
    with open(path, "rb") as f:
        head = f.read(64 << 20)
    at = head.index(struct.pack("<Q", len(key)) + key) + 8 + len(key)
    kind, size = struct.unpack_from("<IQ", head, at)
    if kind != 8:
        raise ValueError(f"{path}: the chat template is not a string")
    return head[at + 12 : at + 12 + size].decode()


def from_unsloth():
    """The *_template constants of unsloth/chat_templates.py."""
    root = importlib.util.find_spec("unsloth").submodule_search_locations[0]
    with open(os.path.join(root, "chat_templates.py"), encoding="utf-8") as f:
        tree = ast.parse(f.read())
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        value = node.value
        if name.endswith("_template") and isinstance(value, ast.Constant) and isinstance(value.value, str):
            if "{%" in value.value:
                found["unsloth/" + name.removesuffix("_template")] = value.value
    return found


def render(source, conversation):
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            conversations=[conversation["messages"]],
            tools=conversation["tools"],
            chat_template=source,
            add_generation_prompt=conversation["add_generation_prompt"],
            bos_token=BOS,
            eos_token=EOS,
            **conversation["extra"],
        )
    except TemplateError as e:
        # raise_exception's is a TemplateError itself, a failure is of a subclass.
        return {"error": str(e), "refused": type(e) is TemplateError}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}", "refused": False}
    return {"text": texts[0]}


def main():
    job = json.load(sys.stdin)
    now = datetime.fromisoformat(job["now"])

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    chat_template_utils.datetime = Clock
    templates = job["templates"] | from_unsloth()
    if job["gguf"]:
        templates["gguf"] = from_gguf(job["gguf"])
    json.dump(
        {
            name: {
                "source": source,
                "bos": BOS,
                "eos": EOS,
                "results": [render(source, c) for c in job["conversations"]],
            }
            for name, source in templates.items()
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
