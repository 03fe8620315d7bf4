// Feishu's official SDK, unmodified, against the mock: creates tasks, polls each to its end.
//
// Reads MOCK_URL, APP_ID, APP_SECRET, SITE and SDK_FOLDER; prints what it saw as one JSON object.

import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const { MOCK_URL, APP_ID, APP_SECRET, SITE, SDK_FOLDER } = process.env;
const lark = createRequire(`${SDK_FOLDER}/package.json`)("@larksuiteoapi/node-sdk");

const GIVE_UP_AFTER_MS = 20_000;
const POLL_EVERY_MS = 50;

const silent = { error() {}, warn() {}, info() {}, debug() {}, trace() {} };
const client = new lark.Client({
  appId: APP_ID,
  appSecret: APP_SECRET,
  domain: MOCK_URL,
  logger: silent,
});

async function create() {
  const reply = await client.hire.v1.websiteDelivery.createByAttachment({
    path: { website_id: SITE },
    data: {
      job_post_id: "6960663240925956658",
      user_id: "6960663240925956656",
      resume_file_id: "6960663240925956660",
    },
  });
  if (reply.code !== 0) throw new Error(JSON.stringify(reply));
  return reply.data.task_id;
}

const poll = (taskId) =>
  client.hire.v1.websiteDeliveryTask.get({
    path: { website_id: SITE, delivery_task_id: taskId },
  });

async function follow(taskId) {
  const deadline = Date.now() + GIVE_UP_AFTER_MS;
  let pending = 0;
  while (Date.now() < deadline) {
    const { code, data } = await poll(taskId);
    if (code !== 0) throw new Error(`code ${code}`);
    if (data?.status === 2 || data?.status === 3) {
      return {
        task_id: taskId,
        status: data.status,
        application_id: data.delivery?.application_id ?? null,
        status_msg: data.status_msg ?? null,
        extra_info: data.extra_info ?? null,
        pending,
      };
    }
    pending += 1;
    await sleep(POLL_EVERY_MS);
  }
  throw new Error(`${taskId} did not end`);
}

const ended = [];
for (const taskId of [await create(), await create(), await create()]) {
  ended.push(await follow(taskId));
}
const unknown = await poll("0".repeat(32)).catch(({ response }) => ({
  status: response.status,
  code: response.data.code,
  log_id: response.headers["x-tt-logid"],
  troubleshooter: response.data.error.troubleshooter,
}));
console.log(JSON.stringify({ ended, unknown }));
