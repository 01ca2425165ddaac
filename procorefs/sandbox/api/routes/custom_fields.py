"""What the custom fields are, and the choices of those that have some. (procore-api.md, Custom fields)"""

from procorefs.sandbox.api.call_contract import Call, Endpoint
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import PAGED, boolean, choice, integer, text
from procorefs.sandbox.api.refusals import invalid, not_found


def list_metadata(call: Call) -> Answer:
    """The fields of all tools: two may have one label."""
    call.project()
    if "view" not in call.query:
        raise invalid("view", "is missing")
    wanted = call.query.get("filters[custom_field_definitions_id]")
    rows = call.sandbox.store.execute(
        "SELECT id, label, data_type, tool FROM field_definitions WHERE company_id = ? ORDER BY id",
        (call.caller.company_id,),
    )
    fields = [
        {
            "id": 70_000 + definition_id,
            "custom_field_definition_id": definition_id,
            "label": label,
            "data_type": data_type,
            "variant": None,
            "default_value": None,
            "required": False,
            "visible": True,
            "company_id": call.caller.company_id,
            "host_type": tool,
            "position": position,
        }
        for position, (definition_id, label, data_type, tool) in enumerate(rows, 1)
        if wanted in (None, definition_id)
    ]
    return call.page(call.sandbox.dialect.default_per_page).of(fields, call.request.url)


def list_lov_entries(call: Call) -> Answer:
    if call.query.get("company_id") != call.caller.company_id:
        raise invalid("company_id", "is missing, or not the company of the header")
    definition_id = call.path_id("custom_field_definition_id")
    known = call.sandbox.store.one("SELECT 1 FROM field_definitions WHERE id = ?", (definition_id,))
    if not known:
        raise not_found("Custom field definition")
    active, start = call.query.get("filters[active]"), call.query.get("filters[label_with]", "")
    rows = call.sandbox.store.execute(
        "SELECT id, label, position, active FROM lov_entries WHERE definition_id = ? ORDER BY position, id",
        (definition_id,),
    )
    entries = [
        {"id": row[0], "label": row[1], "position": row[2], "active": bool(row[3])}
        for row in rows
        if active in (None, bool(row[3])) and start.lower() in row[1].lower()
    ]
    return call.page(call.sandbox.dialect.default_per_page).of(entries, call.request.url)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/rest/v1.0/custom_field_metadata",
        handler=list_metadata,
        query={
            "project_id": integer,
            "company_id": integer,
            "view": choice("extended"),
            "filters[custom_field_definitions_id]": integer,
            "filters[field_set_type][]": text,
            **PAGED,
        },
    ),
    Endpoint(
        method="GET",
        path="/rest/v1.0/custom_field_definitions/{custom_field_definition_id}/custom_field_lov_entries",
        handler=list_lov_entries,
        query={"company_id": integer, "filters[active]": boolean, "filters[label_with]": text, **PAGED},
    ),
)
