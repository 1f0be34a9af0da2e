"""langchain-openai: answers, streams, batches, a demanded tool, an answer of a schema."""
import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI

url = sys.argv[1] + "/v1"
chat = ChatOpenAI(model="tiny", base_url=url, api_key="none", max_tokens=6, temperature=0)
said = chat.invoke([SystemMessage("Be short."), HumanMessage("Hi")])
assert said.usage_metadata["output_tokens"] == 6 and said.response_metadata["finish_reason"] == "length", said
assert sum(1 for _ in chat.stream("Hi")) > 1
assert len(chat.batch(["a", "b", "c"])) == 3
text = OpenAI(model="tiny", base_url=url, api_key="none", max_tokens=6, temperature=0)
assert isinstance(text.invoke("Once upon"), str)

tool = {"type": "function", "function": {"name": "look", "description": "Looks at a number.", "parameters": {
    "type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "additionalProperties": False}}}
longer = ChatOpenAI(model="tiny", base_url=url, api_key="none", max_tokens=200, temperature=0)
called = longer.bind_tools([tool], tool_choice="look").invoke("Look at 3")
assert called.tool_calls and called.tool_calls[0]["name"] == "look" and 0 <= called.tool_calls[0]["args"]["n"] <= 9, called
schema = {"title": "colour", "description": "A colour.", "type": "object", "properties": {"name": {"enum": ["red", "green"]}}, "required": ["name"],
          "additionalProperties": False}
made = longer.with_structured_output(schema, method="json_schema").invoke("A colour")
assert made["name"] in ("red", "green"), made
