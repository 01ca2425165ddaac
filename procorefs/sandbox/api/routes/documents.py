"""The documents index, v2 with and without company, and v1; and the revisions of a file."""

from procorefs.sandbox.api.call_contract import Call, Endpoint, granted_roots
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import (
    PAGED,
    Parser,
    boolean,
    choice,
    ids,
    integer,
    text,
    texts,
    time_range,
)
from procorefs.sandbox.api.refusals import not_found
from procorefs.sandbox.project.documents_index import SORT_WORDS, Listing

_MAX_REVISIONS = 20


def list_documents_v2(call: Call) -> Answer:
    return _list(call, v2=True)


def list_documents_v1(call: Call) -> Answer:
    return _list(call, v2=False)


def _list(call: Call, *, v2: bool) -> Answer:
    settings, dialect = call.sandbox.faults.settings, call.sandbox.dialect
    if v2 and (settings.no_v2 or (settings.no_v2_with_company and "company_id" in call.request.path_params)):
        raise not_found("Route")
    project = call.project()
    listing = Listing(call.sandbox.store, dialect, project)
    listing.visible_to(call.caller, call.level(project), granted_roots(call.sandbox, call.caller))
    listing.filter(call.query)
    page = call.page(dialect.default_per_page_v2 if v2 else dialect.default_per_page)
    renderer = call.renderer(project)
    found = listing.page(call.query.get("sort"), page.per_page, page.offset)
    items = [renderer.document(document, v2=v2) for document in found]
    return page.answer({"data": items} if v2 else items, listing.count(), call.request.url)


def list_revisions(call: Call) -> Answer:
    """The 20 newest versions."""
    if not call.sandbox.dialect.revisions or call.sandbox.faults.settings.no_v2:
        raise not_found("Route")
    project = call.project()
    document = call.visible(project, call.path_id("document_id"))
    if not document.is_file:
        raise not_found("File")
    renderer = call.renderer(project)
    newest = call.sandbox.store.versions(document.id)[:_MAX_REVISIONS]
    return Answer({"data": [renderer.revision(version) for version in newest]})


_QUERY: dict[str, Parser] = {
    "view": choice("normal", "extended"),
    "sort": choice(*SORT_WORDS),
    "filters[updated_at]": time_range,
    "filters[created_at]": time_range,
    "filters[document_type]": choice("file", "folder"),
    "filters[is_in_recycle_bin]": boolean,
    "filters[folder_id]": integer,
    "filters[custom_tag_ids]": ids,
    "filters[created_by_id]": ids,
    "filters[file_type]": texts,
    "filters[search]": text,
    "filters[private]": boolean,
    **PAGED,
}

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/rest/v2.0/companies/{company_id}/projects/{project_id}/documents",
        handler=list_documents_v2,
        query=_QUERY,
    ),
    Endpoint(
        method="GET",
        path="/rest/v2.0/projects/{project_id}/documents",
        handler=list_documents_v2,
        query=_QUERY,
    ),
    Endpoint(
        method="GET",
        path="/rest/v1.0/projects/{project_id}/documents",
        handler=list_documents_v1,
        query=_QUERY,
    ),
    Endpoint(
        method="GET",
        path="/rest/v2.0/companies/{company_id}/projects/{project_id}/documents/{document_id}/revisions",
        handler=list_revisions,
    ),
)
