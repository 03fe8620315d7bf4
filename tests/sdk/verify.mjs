// Standard Webhooks' official library for JavaScript: a line `true` or `false` for each case.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

// From where the SDKs are installed, which is not beside this file.
const { Webhook, WebhookVerificationError } = createRequire(process.env.SDK)("standardwebhooks");

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, body, headers } = JSON.parse(line);
  try {
    new Webhook(secret).verify(body, headers);
    console.log("true");
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    console.log("false");
  }
}
