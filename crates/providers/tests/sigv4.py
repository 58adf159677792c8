#!/usr/bin/env python3
"""Writes sigv4.json: requests to Bedrock as botocore signs them, for the tests of src/sign.rs.

    pip install botocore
    python3 crates/providers/tests/sigv4.py > crates/providers/tests/sigv4.json

The credentials are the ones of Amazon's documentation; they open nothing.
"""

import datetime
import hashlib
import json
from unittest import mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="
ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3A"
MODELS = [
    ("us-east-1", "amazon.titan-embed-text-v1", "invoke"),
    ("us-east-1", "anthropic.claude-3-5-sonnet-20241022-v2%3A0", "converse"),
    ("eu-west-3", "anthropic.claude-3-5-sonnet-20241022-v2%3A0", "converse-stream"),
    ("us-gov-west-1", "anthropic.claude-3-5-sonnet-20241022-v2:0", "invoke-with-response-stream"),
    ("us-east-1", ARN + "inference-profile%2Fus.anthropic.claude-3-7-sonnet-20250219-v1%3A0", "converse"),
    ("us-east-1", ARN + "application-inference-profile%2Fmi1dadi0g15f", "converse-stream"),
    ("us-east-1", "qwen.qwen3-32b-v1%3A0", "count-tokens"),
    ("us-east-1", "odd~name_1%20%25%2B%40", "converse"),
]
BODIES = ['{"messages":[{"role":"user","content":[{"text":"hi"}]}]}', '{"inputText":"käľt „water“"}', ""]
TIMES = [datetime.datetime(2025, 2, 3, 4, 5, 6), datetime.datetime(2024, 12, 31, 23, 59, 59)]


def case(number, region, model, endpoint):
    body, at, token = BODIES[number % 3], TIMES[number % 2], TOKEN if number % 3 == 1 else None
    url = f"https://bedrock-runtime.{region}.amazonaws.com/model/{model}/{endpoint}"
    headers = {"content-type": "application/json"}
    if number % 2:
        headers["x-amzn-bedrock-accept"] = "  application/json  "
    if number == 2:
        url += "?b=2&a=1%2F2&a=%C3%A9"
    request = AWSRequest(method="POST", url=url, headers=dict(headers), data=body.encode())
    with mock.patch.object(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: at):
        botocore.auth.SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, token), "bedrock", region).add_auth(request)
    return {
        "url": url,
        "region": region,
        "headers": headers,
        "body": body,
        "body_sha256": hashlib.sha256(body.encode()).hexdigest(),
        "unix_seconds": int(at.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "session_token": token,
        "signed": {name: request.headers[name] for name in ("X-Amz-Date", "Authorization")},
    }


print(json.dumps([case(number, *model) for number, model in enumerate(MODELS)], indent=1, ensure_ascii=False))
