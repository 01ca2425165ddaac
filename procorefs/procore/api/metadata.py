"""Makes the calls about tags and custom fields."""

from procorefs.limiter import Priority
from procorefs.procore.api.calls import Call
from procorefs.procore.api.client import MANY, Client
from procorefs.procore.wire import decoding
from procorefs.procore.wire.models import DocumentId, FieldDefinition, FieldId, LovEntry, Tag, TagId


class ProjectMetadata:
    """Reads have the priority of a waiting person, changes that of an upload."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def document_tags(self, document_id: DocumentId) -> list[Tag]:
        """The tags of a file or folder."""
        query = {"filters[document_id]": str(document_id)}
        return await self._client.all_pages(
            self._tags(f"list the tags of document {document_id}", Priority.INTERACTIVE, query=query),
            MANY,
            decoding.tags,
        )

    async def project_tags(self) -> list[Tag]:
        """All tags of the project."""
        return await self._client.all_pages(
            self._tags("list the project's tags", Priority.INTERACTIVE), MANY, decoding.tags
        )

    async def tagged(self, tag_id: TagId) -> set[DocumentId]:
        """The documents outside of the recycle bin that have a tag."""
        listed = await self._client.index(
            {"filters[custom_tag_ids]": str(tag_id)}, priority=Priority.INTERACTIVE
        )
        return {document.id for document in listed if not document.deleted}

    async def add_tag(self, document_id: DocumentId, name: str) -> Tag:
        """Put a tag on a file or folder; it is created when there is none of that name. Raises Unanswered."""
        call = self._tags("tag the document", Priority.WRITING)
        body = {"document_id": document_id, "document_custom_tag": {"name": name}}
        return await self._client.change(call.sending("POST", body, needs=("describe",)), decoding.tag)

    async def remove_tag(self, document_id: DocumentId, tag_id: TagId) -> None:
        """Take a tag off a file or folder. Raises NotFound when it does not have it, Unanswered."""
        query = {"document_id": str(document_id)}
        call = self._tags("take a tag off the document", Priority.WRITING, f"/{tag_id}", query)
        await self._client.ask(call.sending("DELETE", needs=("describe",)))

    async def custom_field_definitions(self) -> list[FieldDefinition]:
        """The fields of all tools, each once; two may have one label."""
        query = self._client.project_query() | {"view": "extended"}
        path, action = "/rest/v1.0/custom_field_metadata", "list the custom fields"
        call = Call("custom_field_metadata", path, query, action, Priority.INTERACTIVE)
        found: list[FieldDefinition] = await self._client.all_pages(call, MANY, decoding.field_definitions)
        once: dict[FieldId, FieldDefinition] = {}
        for field in found:
            once.setdefault(field.id, field)
        return list(once.values())

    async def lov_entries(self, field_id: FieldId) -> list[LovEntry]:
        """The choices of a field, in their order."""
        company_id, _ = self._client.company_and_project()
        path = f"/rest/v1.0/custom_field_definitions/{field_id}/custom_field_lov_entries"
        query, action = {"company_id": str(company_id)}, "list the choices of the custom field"
        call = Call("custom_field_lov_entries", path, query, action, Priority.INTERACTIVE)
        return await self._client.all_pages(call, MANY, decoding.lov_entries)

    def _tags(
        self, action: str, priority: Priority, below: str = "", query: dict[str, str] | None = None
    ) -> Call:
        _, project_id = self._client.company_and_project()
        path = f"/rest/v1.0/projects/{project_id}/document_custom_tags{below}"
        return Call("document_custom_tags", path, query or {}, action, priority)
