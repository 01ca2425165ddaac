"""Lists of many documents: the documents list, v2.0 and v1.0; a folder or what is below it; revisions of a file."""

from procorefs.sandbox.api.call_contract import Call, Endpoint, granted_roots
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.query_parameters import (
    PAGED,
    Parser,
    boolean,
    choice,
    choices,
    ids,
    integer,
    text,
    texts,
    time_range,
)
from procorefs.sandbox.api.refusals import ApiError, invalid, not_found
from procorefs.sandbox.project.documents_index import (
    SORT_TERMS,
    SORT_WORDS,
    Listing,
    order_by_terms,
    order_by_word,
)
from procorefs.sandbox.project.records import Document

_MAX_REVISIONS = 20


def list_documents_v2(call: Call) -> Answer:
    return _list(call, v2=True)


def list_documents_v1(call: Call) -> Answer:
    return _list(call, v2=False)


def _list(call: Call, *, v2: bool) -> Answer:
    dialect = call.sandbox.dialect
    with_company = "company_id" in call.request.path_params
    if v2 and dialect.documents_lists not in ("both", "both" if with_company else "without_company"):
        raise not_found("Route")
    if not v2 and dialect.deprecated_lists != "given":
        raise ApiError(dialect.deprecated_lists, "This endpoint is not available to new apps")
    project = call.project()
    listing = Listing(call.sandbox.store, dialect, project)
    listing.visible_to(call.caller, call.role(project), granted_roots(call.sandbox, call.caller))
    listing.filter(call.query)
    page = call.page(dialect.default_per_page_v2 if v2 else dialect.default_per_page)
    renderer = call.renderer(project)
    found = listing.page(order_by_word(call.query.get("sort")), page.per_page, page.offset)
    items = [renderer.document(document, v2=v2) for document in found]
    if dialect.normal_view == "short" and call.query.get("view") != "extended":
        items = [renderer.shortened(item) for item in items]
    answer = page.answer({"data": items} if v2 else items, listing.count(), call.request.url)
    return answer.with_capped_total() if dialect.documents_total == "capped" else answer


def list_root_contents(call: Call) -> Answer:
    """What is in the root folder, or below it."""
    project = call.project()
    return _list_folder(call, call.visible(project, project.root_id))


def list_folder_contents(call: Call) -> Answer:
    """What is in a folder, or below it."""
    folder = call.visible(call.project(), call.path_id("folder_id"))
    if folder.is_file:
        raise not_found("Folder")
    return _list_folder(call, folder)


def _list_folder(call: Call, folder: Document) -> Answer:
    """One mixed, paged list without the folder itself; only filters reach below it."""
    if not call.sandbox.dialect.folder_reads:
        raise not_found("Route")
    project, query = call.project(), call.query
    listing = Listing(call.sandbox.store, call.sandbox.dialect, project)
    listing.visible_to(call.caller, call.role(project), granted_roots(call.sandbox, call.caller))
    listing.filter(query, bin_by_filter_only=True)
    if query.get("include_descendants"):
        if not any(name.startswith("filters[") for name in query):
            raise invalid("include_descendants", "needs a filter")
        listing.below(folder.id, itself=False)
    else:
        listing.inside(folder.id)
    for name, is_file in (("exclude_folders", False), ("exclude_files", True)):
        if query.get(name):
            listing.of_kind(is_file=not is_file)
    page = call.page(call.sandbox.dialect.default_per_page_v2)
    renderer, view = call.renderer(project), query.get("view", "normal")
    found = listing.page(
        order_by_terms(query.get("sort", ["document_type", "name"])), page.per_page, page.offset
    )
    items = [renderer.folder_content(document, tells_ancestor=view != "sync_compact") for document in found]
    return page.answer({"data": items}, listing.count(), call.request.url)


def list_revisions(call: Call) -> Answer:
    """The 20 newest versions."""
    if not call.sandbox.dialect.revisions:
        raise not_found("Route")
    project = call.project()
    document = call.visible(project, call.path_id("document_id"))
    if not document.is_file:
        raise not_found("File")
    renderer = call.renderer(project)
    newest = call.sandbox.store.versions(document.id)[:_MAX_REVISIONS]
    return Answer({"data": [renderer.revision(version) for version in newest]})


_FILTERS: dict[str, Parser] = {
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
_QUERY: dict[str, Parser] = {
    "view": choice("normal", "extended"),
    "sort": choice(*SORT_WORDS),
    **_FILTERS,
}
_FOLDER_QUERY: dict[str, Parser] = {
    "view": choice("normal", "web_normal", "sync_compact"),
    "sort": choices(*SORT_TERMS),
    "include_descendants": boolean,
    "exclude_folders": boolean,
    "exclude_files": boolean,
    "show_latest_file_version_only": boolean,
    **_FILTERS,
}
_FOLDERS = "/rest/v2.0/companies/{company_id}/projects/{project_id}/folders"

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
    Endpoint(method="GET", path=_FOLDERS, handler=list_root_contents, query=_FOLDER_QUERY),
    Endpoint(
        method="GET", path=f"{_FOLDERS}/{{folder_id}}", handler=list_folder_contents, query=_FOLDER_QUERY
    ),
    Endpoint(
        method="GET",
        path="/rest/v2.0/companies/{company_id}/projects/{project_id}/documents/{document_id}/revisions",
        handler=list_revisions,
    ),
)
