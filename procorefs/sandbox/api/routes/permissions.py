"""The permissions call: lists the tools of a project or company with the caller's access level and granular rights.

(procore-api.md, What the caller may do)
"""

from procorefs.sandbox.api.call_contract import Call, Endpoint
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import boolean, integer
from procorefs.sandbox.api.refusals import forbidden, invalid
from procorefs.sandbox.project.records import Json
from procorefs.sandbox.project.roles import LEVEL_NAMES, Role

_LEVEL_IDS = {"off": 1, "read": 2, "standard": 3, "admin": 4}


def show_permissions(call: Call) -> Answer:
    project_id, company_id = call.query.get("project_id"), call.query.get("company_id")
    if (project_id is None) == (company_id is None):
        raise invalid("project_id", "or company_id must be given, and only one of them")
    if project_id is None:
        if company_id != call.caller.company_id:
            raise forbidden("company_id is not the company of the header")
        return Answer({"tools": []})
    role = call.role(call.in_company(project_id))
    tools = [_tool(1, "home", "Project Home", Role("read"), []), _tool(2, "rfi", "RFIs", Role("off"), [])]
    name, words = call.sandbox.dialect.tool_name, call.sandbox.dialect.action_words
    if name:
        actions: list[Json] = [
            {"id": number, "action_name": _spelt(action, words), "tool_name": name, "label": action}
            for number, action in enumerate(role.actions, 100)
        ]
        tools.append(_tool(3, name, None, role, actions))
    return Answer({"tools": tools})


def _tool(number: int, name: str, friendly_name: str | None, role: Role, actions: list[Json]) -> Json:
    return {
        "id": number,
        "name": name,
        "friendly_name": friendly_name,
        "domain_id": number,
        "tab_group": None,
        "available_for_user": role.level != "off",
        "url": None,
        "user_access_level": {"id": _LEVEL_IDS[role.level], "name": LEVEL_NAMES[role.level]},
        "permitted_actions": actions,
        "create_url": None,
        "can_create": None,
        "trial": None,
    }


def _spelt(action: str, words: str) -> str:
    if words == "snake":
        return action.lower().replace(" ", "_")
    return action if words == "title" else action.replace(" ", "")


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/rest/v1.0/settings/permissions",
        handler=show_permissions,
        query={"project_id": integer, "company_id": integer, "filter_correspondence_types": boolean},
    ),
)
