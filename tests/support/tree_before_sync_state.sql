BEGIN TRANSACTION;
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
INSERT INTO "fact" VALUES('balanced',1);
INSERT INTO "fact" VALUES('bin_deleted',1);
INSERT INTO "fact" VALUES('bin_hidden',0);
INSERT INTO "fact" VALUES('bin_total',1);
INSERT INTO "fact" VALUES('complete',1);
INSERT INTO "fact" VALUES('deleted',0);
INSERT INTO "fact" VALUES('final',1700000334);
INSERT INTO "fact" VALUES('hidden',0);
INSERT INTO "fact" VALUES('index_route',0);
INSERT INTO "fact" VALUES('listing',1700000340);
INSERT INTO "fact" VALUES('mark','0011223344556677');
INSERT INTO "fact" VALUES('newest',1700000340);
INSERT INTO "fact" VALUES('pass',2);
INSERT INTO "fact" VALUES('project_name','Tower');
INSERT INTO "fact" VALUES('reached',1700000150);
INSERT INTO "fact" VALUES('refused',0);
INSERT INTO "fact" VALUES('relist_calls',4);
INSERT INTO "fact" VALUES('relist_futile',2);
INSERT INTO "fact" VALUES('relisted_at',1700000500);
INSERT INTO "fact" VALUES('still',1);
INSERT INTO "fact" VALUES('surplus',2);
INSERT INTO "fact" VALUES('tail',1);
INSERT INTO "fact" VALUES('ways',3);
CREATE TABLE node (
    inode       INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again, not even after the row is gone
    parent      INTEGER,           -- inode of the folder; NULL: not in the tree
    shown       BLOB NOT NULL,     -- the directory entry; what Procore calls it stands in name
    name        TEXT NOT NULL,
    document_id INTEGER UNIQUE,    -- NULL: an ORPHAN
    kind        INTEGER NOT NULL,  -- 1 folder, 2 file
    state       INTEGER NOT NULL,  -- nodes.State
    listed      INTEGER NOT NULL,  -- folder: all children are rows
    read_only   INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,  -- Unix seconds, as all times here
    updated_at  INTEGER NOT NULL,
    version_id  INTEGER,           -- NULL: folder, or no usable version (see defect)
    version_number INTEGER,
    size        INTEGER,
    version_created_at INTEGER,
    url         TEXT,
    defect      TEXT NOT NULL,
    detail      BLOB NOT NULL,     -- absorb.Detail as JSON: what no file operation needs
    pass        INTEGER NOT NULL,  -- number of the full listing during which an answer last had it (full_listing.py)
    kept        BLOB               -- nodes.Kept as MessagePack: what was set here and Procore has no place for
) STRICT;
INSERT INTO "node" VALUES(1,NULL,X'','',1,1,0,1,0,1699999000,1699999000,NULL,NULL,NULL,NULL,NULL,'',X'7B7D',1,NULL);
INSERT INTO "node" VALUES(1024,1,X'44726177696E6773','Drawings',10,1,0,1,0,1700000000,1700000000,NULL,NULL,NULL,NULL,NULL,'',X'7B7D',1,X'98C0CF18ECAACA11C2E5E9C0CF18ECAACA11C2E5E9C0C0C0C400');
INSERT INTO "node" VALUES(1025,1,X'30302E706466','00.pdf',11,2,0,0,0,1700000000,1700000000,12,1,12,1700000000,'https://store.example/12','',X'7B7D',1,NULL);
INSERT INTO "node" VALUES(1026,1,X'30322E706466','02.pdf',15,2,0,0,0,1700000020,1700000020,16,1,16,1700000020,'https://store.example/16','',X'7B7D',1,NULL);
INSERT INTO "node" VALUES(1027,1,X'30342E706466','04.pdf',19,2,0,0,0,1700000040,1700000040,20,1,20,1700000040,'https://store.example/20','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1028,1,X'30362E706466','06.pdf',23,2,0,0,0,1700000060,1700000060,24,1,24,1700000060,'https://store.example/24','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1029,1,X'30382E706466','08.pdf',27,2,0,0,0,1700000080,1700000080,28,1,28,1700000080,'https://store.example/28','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1030,1,X'31302E706466','10.pdf',31,2,0,0,0,1700000100,1700000100,32,1,32,1700000100,'https://store.example/32','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1031,1,X'31322E706466','12.pdf',35,2,0,0,0,1700000120,1700000120,36,1,36,1700000120,'https://store.example/36','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1032,1,X'31342E706466','14.pdf',39,2,0,0,0,1700000140,1700000140,40,1,40,1700000140,'https://store.example/40','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1033,1,X'31362E706466','16.pdf',43,2,0,0,0,1700000160,1700000160,44,1,44,1700000160,'https://store.example/44','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1034,1,X'31382E706466','18.pdf',47,2,0,0,0,1700000180,1700000180,48,1,48,1700000180,'https://store.example/48','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1035,1,X'32302E706466','20.pdf',51,2,0,0,0,1700000200,1700000200,52,1,52,1700000200,'https://store.example/52','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1036,1,X'32322E706466','22.pdf',55,2,0,0,0,1700000220,1700000220,56,1,56,1700000220,'https://store.example/56','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1037,1024,X'31352E706466','15.pdf',41,2,0,0,0,1700000150,1700000150,42,1,42,1700000150,'https://store.example/42','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1038,1024,X'31372E706466','17.pdf',45,2,0,0,0,1700000170,1700000170,46,1,46,1700000170,'https://store.example/46','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1039,1024,X'31392E706466','19.pdf',49,2,0,0,0,1700000190,1700000190,50,1,50,1700000190,'https://store.example/50','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1040,1024,X'32312E706466','21.pdf',53,2,0,0,0,1700000210,1700000210,54,1,54,1700000210,'https://store.example/54','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1041,1024,X'32332E706466','23.pdf',57,2,0,0,0,1700000230,1700000230,58,1,58,1700000230,'https://store.example/58','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1042,1024,X'30352E706466','05.pdf',21,2,0,0,0,1700000050,1700000050,22,1,22,1700000050,'https://store.example/22','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1043,1024,X'30372E706466','07.pdf',25,2,0,0,0,1700000070,1700000070,26,1,26,1700000070,'https://store.example/26','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1044,NULL,X'30392E706466','09.pdf',29,2,1,0,0,1700000090,1700000090,30,1,30,1700000090,'https://store.example/30','',X'7B7D',0,NULL);
INSERT INTO "node" VALUES(1045,1024,X'31312E706466','11.pdf',33,2,0,0,0,1700000110,1700000110,34,1,34,1700000110,'https://store.example/34','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1046,1024,X'31332E706466','13.pdf',37,2,0,0,0,1700000130,1700000130,38,1,38,1700000130,'https://store.example/38','',X'7B7D',2,NULL);
INSERT INTO "node" VALUES(1047,NULL,X'','Recycle Bin',2,1,3,1,0,1699999000,1699999000,NULL,NULL,NULL,NULL,NULL,'',X'7B7D',1,NULL);
INSERT INTO "node" VALUES(1048,1024,X'30312E706466','01.pdf',13,2,0,0,0,1700000010,1700000010,14,1,14,1700000010,'https://store.example/14','',X'7B7D',1,NULL);
INSERT INTO "node" VALUES(1049,1024,X'72656E616D65642E706466','renamed.pdf',17,2,0,0,0,1700000030,1700000340,18,1,18,1700000030,'https://store.example/18','',X'7B7D',2,NULL);
CREATE UNIQUE INDEX node_entry ON node (parent, shown) WHERE parent IS NOT NULL;
CREATE INDEX node_children ON node (parent);
CREATE INDEX node_marked ON node (parent, name) WHERE parent IS NOT NULL AND shown <> CAST(name AS BLOB);
CREATE INDEX node_apart ON node (state) WHERE state <> 0;
CREATE INDEX node_unlisted ON node (inode) WHERE kind = 1 AND listed = 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('node',1049);
COMMIT;
PRAGMA user_version = 2;
