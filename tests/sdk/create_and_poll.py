"""Feishu's official SDK, unmodified, against the mock: creates tasks, polls each to its end.

Reads MOCK_URL, APP_ID, APP_SECRET and SITE; prints what it saw as one JSON object.
"""

import json
import os
import time

import lark_oapi as lark
from lark_oapi.api.hire.v1 import (
    CreateByAttachmentWebsiteDeliveryRequest,
    GetWebsiteDeliveryTaskRequest,
    WebsiteDeliveryAttachment,
)

SITE = os.environ["SITE"]
GIVE_UP_AFTER_S = 20
POLL_EVERY_S = 0.05

client = (
    lark.Client.builder()
    .domain(os.environ["MOCK_URL"])
    .app_id(os.environ["APP_ID"])
    .app_secret(os.environ["APP_SECRET"])
    .build()
)


def create():
    body = (
        WebsiteDeliveryAttachment.builder()
        .job_post_id("6960663240925956658")
        .user_id("6960663240925956656")
        .resume_file_id("6960663240925956660")
        .build()
    )
    request = (
        CreateByAttachmentWebsiteDeliveryRequest.builder()
        .website_id(SITE)
        .request_body(body)
        .build()
    )
    response = client.hire.v1.website_delivery.create_by_attachment(request)
    assert response.success(), (response.code, response.msg)
    return response.data.task_id


def poll(task_id):
    request = (
        GetWebsiteDeliveryTaskRequest.builder()
        .website_id(SITE)
        .delivery_task_id(task_id)
        .build()
    )
    return client.hire.v1.website_delivery_task.get(request)


def follow(task_id):
    deadline = time.monotonic() + GIVE_UP_AFTER_S
    pending = 0
    while time.monotonic() < deadline:
        response = poll(task_id)
        assert response.success(), (response.code, response.msg)
        data = response.data
        if data is not None and data.status in (2, 3):
            return {
                "task_id": task_id,
                "status": data.status,
                "application_id": data.delivery.application_id if data.delivery else None,
                "status_msg": data.status_msg,
                "extra_info": data.extra_info,
                "pending": pending,
                "log_id": response.get_log_id(),
            }
        pending += 1
        time.sleep(POLL_EVERY_S)
    raise TimeoutError(task_id)


ended = [follow(task_id) for task_id in [create(), create(), create()]]
unknown = poll("0" * 32)
print(
    json.dumps(
        {
            "ended": ended,
            "unknown": {
                "status": unknown.raw.status_code,
                "code": unknown.code,
                "log_id": unknown.get_log_id(),
                "troubleshooter": json.loads(unknown.raw.content)["error"]["troubleshooter"],
            },
        }
    )
)
