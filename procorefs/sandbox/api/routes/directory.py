"""Me, companies, projects. (procore-api.md, Finding the project)"""

from typing import Any

from procorefs.sandbox.api.call_contract import Call, Company, Endpoint
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import PAGED, at_most, boolean, choice, ids, integer, text
from procorefs.sandbox.api.refusals import forbidden, invalid
from procorefs.sandbox.project.records import Json, Project
from procorefs.sandbox.project.render import iso


def show_me(call: Call) -> Answer:
    user = call.caller.user
    me: Json = {"id": user.id, "login": user.login}
    if call.sandbox.dialect.me_name:
        me["name"] = user.name
    return Answer(me)


def list_companies(call: Call) -> Answer:
    rows = call.sandbox.store.execute(
        "SELECT id, name, active FROM companies JOIN connections ON company_id = id WHERE client_id = ? ORDER BY id",
        (call.caller.client_id,),
    )
    companies = [
        {"id": row[0], "name": row[1], "is_active": bool(row[2]), "my_company": True} for row in rows
    ]
    return call.page(call.sandbox.dialect.default_per_page).of(companies, call.request.url)


def list_projects(call: Call) -> Answer:
    if call.query.get("company_id") is None:
        raise invalid("company_id", "is missing")
    if call.query["company_id"] != call.caller.company_id:
        raise forbidden("company_id is not the company of the header")
    rows = call.sandbox.store.column(
        "SELECT p.id FROM projects p JOIN memberships m ON m.project_id = p.id WHERE m.user_id = ? AND company_id = ?"
        " ORDER BY p.name, p.id",
        (call.caller.user.id, call.caller.company_id),
    )
    found = [call.sandbox.store.project(project_id) for project_id in rows]
    wanted = [
        _shown(project, call) for project in found if project is not None and _wanted(project, call.query)
    ]
    return call.page(call.sandbox.dialect.default_per_page).of(wanted, call.request.url)


def _wanted(project: Project, query: dict[str, Any]) -> bool:
    status = query.get("filters[by_status]", "Active")
    if status != "All" and bool(project.active) != (status == "Active"):
        return False
    if query.get("filters[name]", project.name) != project.name:
        return False
    return project.id in query.get("filters[id]", [project.id])


def _shown(project: Project, call: Call) -> Json:
    if call.query.get("view") == "compact":
        return {"id": project.id, "name": project.name}
    number = f"{project.number} - " if project.number else ""
    return {
        "id": project.id,
        "name": project.name,
        "display_name": number + project.name,
        "project_number": project.number,
        "active": bool(project.active),
        "created_at": iso(project.created_at),
        "updated_at": iso(project.updated_at),
        "company": {
            "id": project.company_id,
            "name": call.sandbox.store.value(
                "SELECT name FROM companies WHERE id = ?", (project.company_id,)
            ),
        },
    }


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/rest/v1.0/me",
        handler=show_me,
        query={"company_id": integer, "project_id": integer},
        company=Company.OPTIONAL,
    ),
    Endpoint(
        method="GET",
        path="/rest/v1.0/companies",
        handler=list_companies,
        query={"include_free_companies": boolean, **PAGED},
        company=Company.OPTIONAL,
    ),
    Endpoint(
        method="GET",
        path="/rest/v1.1/projects",
        handler=list_projects,
        query={
            "company_id": integer,
            "view": choice("compact", "normal", "extended"),
            "sort": choice("name", "display_name"),
            "filters[by_status]": choice("All", "Active", "Inactive"),
            "filters[name]": text,
            "filters[id]": ids,
            "page": integer,
            "per_page": at_most(300),
        },
    ),
)
