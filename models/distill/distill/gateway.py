"""A client of the gateway's API."""

from typing import Any

import urllib3

from .errors import DistillError

_TIMEOUT = urllib3.Timeout(connect=5, read=600)


class Gateway:
    """Safe for use by many threads. A busy server (429, 503) is asked again when it
    says so, a broken connection after a pause, a few times."""

    def __init__(self, url: str, clients: int, key: str = "", retries: int = 8, pause: float = 0.5) -> None:
        if not url.startswith(("http://", "https://")):
            raise DistillError(f"{url!r} is not the address of a gateway: http://HOST:PORT is wanted")
        self._url = url.rstrip("/")
        retry = urllib3.Retry(
            total=retries,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=None,  # a completion may be asked for twice
            backoff_factor=pause,
            backoff_max=15,
            raise_on_status=False,
        )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._pool = urllib3.PoolManager(maxsize=clients, headers=headers, retries=retry, timeout=_TIMEOUT)

    def model(self) -> str:
        """The name of the first model that is served."""
        data = self._call("GET", "/v1/models").get("data")
        if not data:
            raise DistillError(f"{self._url} serves no model")
        return str(data[0]["id"])

    def chat(self, model: str, messages: list[dict[str, str]], max_tokens: int, temperature: float, seed: int) -> tuple[str, str]:
        """An answer's text and why it ended."""
        got = self._call(
            "POST",
            "/v1/chat/completions",
            {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": temperature, "seed": seed},
        )
        choice = got["choices"][0]
        return choice["message"]["content"] or "", choice["finish_reason"]

    def prompt_tokens(self, messages: list[dict[str, str]]) -> list[int]:
        """The tokens that a conversation's prompt has, up to where the answer begins."""
        prompt = self._call("POST", "/apply-template", {"messages": messages})["prompt"]
        tokens = self._call("POST", "/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        # Some templates write the token that the tokenizer also puts first.
        return tokens[1:] if len(tokens) > 1 and tokens[0] == tokens[1] else tokens

    def text_tokens(self, text: str) -> list[int]:
        return self._call("POST", "/tokenize", {"content": text, "add_special": False, "parse_special": False})["tokens"]

    def ready(self) -> bool:
        """Whether it serves now; asks once."""
        try:
            return self._pool.request("GET", self._url + "/readyz", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            r = self._pool.request(method, self._url + path, json=body)
        except urllib3.exceptions.HTTPError as e:
            raise DistillError(f"{method} {self._url}{path}: {e}") from None
        if r.status != 200:
            raise DistillError(f"{method} {self._url}{path}: status {r.status}: {r.data[:500].decode(errors='replace')}")
        try:
            return r.json()
        except ValueError as e:
            raise DistillError(f"{method} {self._url}{path}: the answer is not JSON: {e}") from None
