"""Custom tags of documents. (procore-api.md, Tags)"""

import msgspec

from procorefs.sandbox.api.call_contract import Call, Endpoint
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import PAGED, integer
from procorefs.sandbox.api.refusals import invalid, not_found
from procorefs.sandbox.project.records import Project
from procorefs.sandbox.project.roles import Right
from procorefs.sandbox.project.tree_changes import Changes


class TagName(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class TagWish(msgspec.Struct, forbid_unknown_fields=True):
    document_id: int
    document_custom_tag: TagName


def list_tags(call: Call) -> Answer:
    project = call.project()
    document_id = call.query.get("filters[document_id]")
    if document_id is None:
        rows = call.sandbox.store.execute(
            "SELECT id, name FROM tags WHERE project_id = ? ORDER BY name, id", (project.id,)
        )
    else:
        call.visible(project, document_id)
        rows = call.sandbox.store.execute(
            "SELECT id, name FROM tags JOIN document_tags ON tag_id = id WHERE document_id = ? ORDER BY name, id",
            (document_id,),
        )
    tags = [{"id": row[0], "name": row[1]} for row in rows]
    return call.page(call.sandbox.dialect.default_per_page).of(tags, call.request.url)


def create_tag(call: Call) -> Answer:
    project = _writable(call)
    wish = call.body(TagWish)
    name = wish.document_custom_tag.name
    if not name.strip():
        raise invalid("name", "can't be blank")
    call.visible(project, wish.document_id)
    tag_id = Changes(call.sandbox, call.caller.user.id).tag(project.id, wish.document_id, name)
    return Answer(
        {"id": tag_id, "name": call.sandbox.store.value("SELECT name FROM tags WHERE id = ?", (tag_id,))}
    )


def delete_tag(call: Call) -> Answer:
    project = _writable(call)
    document_id = call.query.get("document_id")
    if document_id is None:
        raise invalid("document_id", "is missing")
    call.visible(project, document_id)
    if not Changes(call.sandbox, call.caller.user.id).untag(document_id, call.path_id()):
        raise not_found("Tag")
    if call.sandbox.dialect.delete_status == 204:
        return Answer(None, 204)
    name = call.sandbox.store.value("SELECT name FROM tags WHERE id = ?", (call.path_id(),))
    return Answer({"id": call.path_id(), "name": name})


def _writable(call: Call) -> Project:
    project = call.project()
    call.check(project, Right.DESCRIBE)
    return project


_PATH = "/rest/v1.0/projects/{project_id}/document_custom_tags"

ENDPOINTS = (
    Endpoint(method="GET", path=_PATH, handler=list_tags, query={"filters[document_id]": integer, **PAGED}),
    Endpoint(method="POST", path=_PATH, handler=create_tag),
    Endpoint(method="DELETE", path=f"{_PATH}/{{id}}", handler=delete_tag, query={"document_id": integer}),
)
