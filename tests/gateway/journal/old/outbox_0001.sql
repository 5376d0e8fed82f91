BEGIN TRANSACTION;
CREATE TABLE cursor (upstream TEXT PRIMARY KEY, position INTEGER NOT NULL, lost INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "cursor" VALUES('ems',2199023255554,0);
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "mark" VALUES('appended',2199023255556);
INSERT INTO "mark" VALUES('boot',2);
INSERT INTO "mark" VALUES('command',2);
INSERT INTO "mark" VALUES('decision',3);
CREATE TABLE record (
    position INTEGER PRIMARY KEY, at REAL NOT NULL, size INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL
);
INSERT INTO "record" VALUES(2199023255555,1760000000.0,262,'report','{"at":1760000000.0,"power_w":3.0,"threshold_w":800.0,"margin_w":null,"generate_w":0.0,"storage_w":0.0,"devices":[{"number":0,"kind":"led","on":true,"level":9,"power_w":60.0,"priority":1},{"number":1,"kind":"led","on":true,"level":9,"power_w":61.0,"priority":1}]}');
INSERT INTO "record" VALUES(2199023255556,1760000000.0,262,'report','{"at":1760000000.0,"power_w":4.0,"threshold_w":800.0,"margin_w":null,"generate_w":0.0,"storage_w":0.0,"devices":[{"number":0,"kind":"led","on":true,"level":9,"power_w":60.0,"priority":1},{"number":1,"kind":"led","on":true,"level":9,"power_w":61.0,"priority":1}]}');
COMMIT;
PRAGMA user_version=1;
