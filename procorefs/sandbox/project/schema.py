"""The sandbox's tables."""

FIRST_DOCUMENT_ID = 6_200_000_001
"""Above 32 bits on purpose: ids may need 64. (procore-openapi.json, Id)"""
FIRST_VERSION_ID = 7_100_000_001

SCHEMA = """
CREATE TABLE IF NOT EXISTS companies (id INTEGER PRIMARY KEY, name TEXT NOT NULL, active INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS projects (
    id INTEGER PRIMARY KEY, company_id INTEGER NOT NULL, name TEXT NOT NULL, number TEXT, active INTEGER NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, root_id INTEGER NOT NULL, bin_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, login TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS clients (
    client_id TEXT PRIMARY KEY, client_secret TEXT NOT NULL, user_id INTEGER NOT NULL REFERENCES users);
CREATE TABLE IF NOT EXISTS connections (client_id TEXT NOT NULL, company_id INTEGER NOT NULL,
    PRIMARY KEY (client_id, company_id)) WITHOUT ROWID;
-- level: admin, standard, read, off; granular_rights: those beside it, by name (roles.py)
CREATE TABLE IF NOT EXISTS memberships (user_id INTEGER NOT NULL, project_id INTEGER NOT NULL, level TEXT NOT NULL,
    PRIMARY KEY (user_id, project_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS granular_rights (user_id INTEGER NOT NULL, project_id INTEGER NOT NULL, action TEXT NOT NULL,
    PRIMARY KEY (user_id, project_id, action)) WITHOUT ROWID;
-- parent_id: the folder it is in, or was in when it was deleted. deleted: itself moved to the bin.
-- buried: below something deleted. private_root: the nearest private folder or file from here up, or null.
-- version_id: the newest version, null for folders.
CREATE TABLE IF NOT EXISTS documents (
    id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL, parent_id INTEGER, is_file INTEGER NOT NULL,
    name TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, created_by INTEGER NOT NULL,
    read_only INTEGER NOT NULL DEFAULT 0, private INTEGER NOT NULL DEFAULT 0, private_root INTEGER,
    is_bin INTEGER NOT NULL DEFAULT 0, tracked INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0, buried INTEGER NOT NULL DEFAULT 0,
    description TEXT, file_type TEXT NOT NULL DEFAULT '', checked_out_by INTEGER, checked_out_until INTEGER,
    fields TEXT NOT NULL DEFAULT '{}', version_id INTEGER);
CREATE TABLE IF NOT EXISTS grants (user_id INTEGER NOT NULL, document_id INTEGER NOT NULL,
    PRIMARY KEY (user_id, document_id)) WITHOUT ROWID;
-- source: where the bytes come from, see version_content.py
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY, document_id INTEGER NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, notes TEXT,
    created_at INTEGER NOT NULL, created_by INTEGER NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tags (id INTEGER PRIMARY KEY, project_id INTEGER NOT NULL, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS document_tags (document_id INTEGER NOT NULL, tag_id INTEGER NOT NULL,
    PRIMARY KEY (document_id, tag_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS field_definitions (
    id INTEGER PRIMARY KEY, company_id INTEGER NOT NULL, label TEXT NOT NULL, data_type TEXT NOT NULL,
    tool TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lov_entries (
    id INTEGER PRIMARY KEY, definition_id INTEGER NOT NULL, label TEXT NOT NULL, position INTEGER NOT NULL,
    active INTEGER NOT NULL);
-- segments: JSON list, null for a whole upload. state: ready, receiving, complete, used.
CREATE TABLE IF NOT EXISTS uploads (
    uuid TEXT PRIMARY KEY, project_id INTEGER NOT NULL, user_id INTEGER NOT NULL, created_at INTEGER NOT NULL,
    filename TEXT NOT NULL, size INTEGER, segments TEXT, state TEXT NOT NULL, fields TEXT NOT NULL,
    received INTEGER);
CREATE TABLE IF NOT EXISTS tokens (
    access_token TEXT PRIMARY KEY, refresh_token TEXT, client_id TEXT NOT NULL, user_id INTEGER NOT NULL,
    grant_type TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    refreshed INTEGER NOT NULL DEFAULT 0, revoked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS codes (
    code TEXT PRIMARY KEY, client_id TEXT NOT NULL, user_id INTEGER NOT NULL, redirect_uri TEXT NOT NULL,
    created_at INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0);
-- Codes that only the sender of the verifier may use (RFC 7636): its SHA-256.
CREATE TABLE IF NOT EXISTS code_challenges (code TEXT PRIMARY KEY, challenge TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

INDEXES = """
CREATE INDEX IF NOT EXISTS documents_by_time
    ON documents (project_id, updated_at, id, deleted, buried, is_bin, private_root, parent_id, created_by);
CREATE INDEX IF NOT EXISTS documents_in_bin ON documents (project_id, updated_at, id) WHERE deleted = 1 OR buried = 1;
CREATE INDEX IF NOT EXISTS documents_by_name ON documents (project_id, name, id);
CREATE INDEX IF NOT EXISTS documents_by_parent ON documents (parent_id, is_file, deleted, name);
CREATE INDEX IF NOT EXISTS versions_by_document ON versions (document_id, number);
CREATE INDEX IF NOT EXISTS document_tags_by_tag ON document_tags (tag_id);
CREATE UNIQUE INDEX IF NOT EXISTS tokens_by_refresh ON tokens (refresh_token);
CREATE INDEX IF NOT EXISTS tags_by_name ON tags (project_id, name);
"""
