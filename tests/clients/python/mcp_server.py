"""A server of one tool, over standard input and output: https://modelcontextprotocol.io/specification."""

import json
import sys

ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "inputSchema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
}

for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {}
    match asked["method"]:
        case "initialize":
            result = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}}}
            result["serverInfo"] = {"name": "sums", "version": "1"}
        case "tools/list":
            result = {"tools": [ADD]}
        case "tools/call":
            given = asked["params"]["arguments"]
            result = {"content": [{"type": "text", "text": f"It is {given['a'] + given['b']}."}]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
