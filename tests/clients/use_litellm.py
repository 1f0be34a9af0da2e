"""litellm: completions whole and streamed, of chat and of text, with errors in its own classes."""
import sys

import litellm

url, model = sys.argv[1] + "/v1", "openai/tiny"
common = {"model": model, "api_base": url, "api_key": "none", "max_tokens": 6}
messages = [{"role": "user", "content": "Tell me a story"}]

whole = litellm.completion(messages=messages, temperature=0, **common)
assert whole.usage.completion_tokens == 6 and whole.choices[0].finish_reason == "length", whole
pieces = list(litellm.completion(messages=messages, temperature=0, stream=True, stream_options={"include_usage": True}, **common))
message = whole.choices[0].message
text = (getattr(message, "reasoning_content", None) or "") + (message.content or "")
streamed = "".join((getattr(p.choices[0].delta, "reasoning_content", None) or "") + (p.choices[0].delta.content or "") for p in pieces if p.choices)
assert streamed == text, (streamed, text)
done = litellm.text_completion(prompt="Once", **{**common, "model": "text-completion-openai/tiny"})
assert done.usage.completion_tokens == 6, done
try:
    litellm.completion(messages=messages, **{**common, "model": "openai/absent"})
    raise AssertionError("an absent model was served")
except litellm.NotFoundError:
    pass
try:
    litellm.completion(messages=messages, top_p=7, **common)
    raise AssertionError("top_p 7 was taken")
except litellm.BadRequestError as e:
    assert "top_p" in str(e), e
