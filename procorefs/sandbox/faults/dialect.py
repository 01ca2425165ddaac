"""The open questions of procore-api.md, each as a switch between the answers that Procore may give."""

from typing import Literal

import msgspec


class Dialect(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One choice for every open question; changed while the sandbox runs (POST faults, `dialect`)."""

    documents_lists: Literal["both", "without_company", "none"] = "both"
    """Which of the two v2.0 documents lists exist."""
    folder_reads: bool = True
    """The v2.0 folder reads exist."""
    normal_view: Literal["whole", "short"] = "whole"
    """Short: only `view=extended` has custom fields, children and the file part's description."""
    several_values: bool = True
    """A filter takes several values."""
    root_in_list: bool = True
    bin_folder_in_list: bool = True
    bin_in_list: bool = False
    """The bin's contents are in the list that was not filtered by the bin."""
    documents_total: Literal["exact", "capped"] = "exact"
    """The header Total of the documents lists."""
    deprecated_lists: Literal["given", 403, 404, 410] = 403
    """How calls of the deprecated documents lists are refused."""
    deleted_parent: Literal["bin", "old"] = "bin"
    descendants: Literal["deleted", "living", "hidden"] = "deleted"
    """What lies below a deleted folder: listed as deleted, listed as if nothing had happened, or not at all."""
    descendants_touched: bool = False
    """They also get a new `updated_at`."""
    delete_touches: bool = True
    private_below: bool = True
    """What lies in a private folder is called private as well."""
    new_items_private: bool = False
    """What is made is private, whatever was sent."""
    move_restores: bool = False
    """A PATCH with `parent_id` takes an item out of the bin, for those who may do that."""
    deleted_get: Literal["flag", "404"] = "flag"
    delete_status: Literal[200, 204] = 204
    versions_order: Literal["newest", "oldest"] = "newest"
    excluded_lists: Literal["absent", "empty"] = "absent"
    service_needs_company: bool = False
    """`/me` and `/companies` want the company's header from a service account."""
    token_owner: bool = True
    """The description of a token says whose it is."""
    missing_company_status: Literal[400, 403] = 400
    rate_windows: Literal["fixed", "rolling"] = "fixed"
    tagging_touches: bool = False
    child_touches_parent: bool = False
    me_name: bool = True
    """`/me` carries a name."""
    case_sensitive_names: bool = True
    stored_names: Literal["as_sent", "nfc", "tidied", "cleaned"] = "as_sent"
    """What becomes of a name that is sent: nothing; NFC; also no white space in front and never two in a row; also some
    signs replaced."""
    empty_files: Literal["taken", "refused_at_upload", "refused_at_file"] = "taken"
    strict_types: Literal["taken", "refused_at_upload", "refused_at_file"] = "taken"
    """Files of the types that "strict file uploads" blocks."""
    refusals_name_rule: bool = True
    """Refusals of empty files and blocked types say so."""
    kinds_share_names: bool = False
    """A file and a folder may have one name."""
    root_id_as_parent: bool = True
    """False: what is made in the root must name no parent."""
    rename_touches: bool = True
    check_out_touches: bool = True
    delete_again: Literal[204, 404, 422] = 404
    """What deleting something deleted is answered with."""
    tool_name: str = "documents"
    """How the permissions call names the documents tool; empty: it does not list it."""
    action_words: Literal["snake", "title", "camel"] = "snake"
    """How it spells granular rights."""
    field_variants: bool = False
    """Values of custom fields carry `variant`."""
    tags_fold_case: bool = False
    """Two names of a tag that differ only in case are one."""
    default_per_page_v2: int = 10
    default_per_page: int = 100
    revisions: bool = True
    """The beta route exists."""
    patch_makes_version: bool = False
    """PATCH of a file makes a version even without new bytes."""
    patch_renumbers: bool = False
    """PATCH of a file without new bytes gives its version another number."""
    answered_versions: Literal["all", "none"] = "all"
    """What answers to POST and PATCH of a file list."""
    answered_lists: bool = True
    """Answers to POST and PATCH of a folder list what is in it."""
    version_authors: bool = True
    """Versions name who made them."""
    used_upload: Literal["field", "words", "unnamed", "missing", "conflict"] = "field"
    """How an upload is refused that was used before: 400 by its field, or in words; 400 without a word about uploads;
    404; 409 where a file has been changed by it."""
    invalid_status: Literal[400, 422] = 400
    """Of changes that cannot be."""
    upload_status: Literal["non_segmented", "ready", "receiving", "complete", ""] = ""
    """What GET of a whole upload says; empty: what is true."""
    segment_size_as_text: bool = False
    etag_quotes: Literal["either", "refused"] = "either"
    error_shape: Literal["errors", "list", "text", "message", "error"] = "errors"
    oauth_error_shape: Literal["rfc6749", "errors"] = "rfc6749"
    tells_date: bool = True
    """Answers carry a Date."""
    unauthorized_has_rate_headers: bool = True
    null_clears_description: bool = True
    empty_text_clears: bool = True
    """An empty text clears a description or a custom field; False: only null does."""
    version_urls: Literal["api", "api_bytes", "storage"] = "api"
    """The API's host, which redirects; the same, which sends the bytes itself; or straight at the store."""
    redirect_status: Literal[302, 303, 307] = 302
    stored_status: Literal[200, 201, 204] = 204
    """The store's answer to a whole upload."""
    storage_etag: Literal["strong", "weak", "none"] = "strong"
    storage_gzip: bool = False
    """The store compresses for whoever says that gzip is fine."""
    checks_code_verifier: bool = True
    """False: the login server does not know PKCE (RFC 7636) and ignores its parameters."""
    authorize_page: bool = True
    """The authorize page asks; False: it goes on at once, as for a person who is logged in and has agreed before."""


STRICT: dict[str, object] = {
    "documents_lists": "without_company",
    "normal_view": "short",
    "several_values": False,
    "root_in_list": False,
    "bin_folder_in_list": False,
    "documents_total": "capped",
    "deprecated_lists": 410,
    "deleted_parent": "old",
    "descendants": "hidden",
    "deleted_get": "404",
    "new_items_private": True,
    "versions_order": "oldest",
    "service_needs_company": True,
    "missing_company_status": 403,
    "rate_windows": "rolling",
    "me_name": False,
    "case_sensitive_names": False,
    "stored_names": "cleaned",
    "empty_files": "refused_at_file",
    "strict_types": "refused_at_upload",
    "root_id_as_parent": False,
    "field_variants": True,
    "tags_fold_case": True,
    "revisions": False,
    "answered_versions": "none",
    "answered_lists": False,
    "version_authors": False,
    "used_upload": "unnamed",
    "invalid_status": 422,
    "segment_size_as_text": True,
    "etag_quotes": "refused",
    "error_shape": "error",
    "oauth_error_shape": "errors",
    "unauthorized_has_rate_headers": False,
    "null_clears_description": False,
    "version_urls": "storage",
    "storage_etag": "none",
}
"""The choices of `procorefs sandbox --strict`: it refuses more and tells less, wherever Procore may do so."""
