"""Standard Webhooks' official library for Python: a line `true` or `false` for each case."""
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    case = json.loads(line)
    try:
        Webhook(case["secret"]).verify(case["body"], case["headers"])
        print("true")
    except WebhookVerificationError:
        print("false")
