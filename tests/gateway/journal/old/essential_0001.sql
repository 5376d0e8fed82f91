BEGIN TRANSACTION;
CREATE TABLE command (id INTEGER PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL);
INSERT INTO "command" VALUES(1,1760000000.0,'{"id":1,"resource":"lamp-1","number":1,"setting":{"on":false,"level":null,"setpoint_w":null,"free":false},"source":"shed","lease_s":60.0,"target_w":0.0,"not_before":-1000.0,"expiry":null,"state":"sent","answer":""}');
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "counter" VALUES('boot',2);
INSERT INTO "counter" VALUES('command',2);
INSERT INTO "counter" VALUES('decision',3);
CREATE TABLE decision (n INTEGER PRIMARY KEY, id INTEGER NOT NULL, devices TEXT NOT NULL, body TEXT NOT NULL);
INSERT INTO "decision" VALUES(1,1,'|lamp-1|ess-2|','{"rule":"shed","at":1760000000.0,"power_w":1012.0,"limit":{"import_w":800.0,"export_w":null,"phase_a":[],"terms":[{"source":"event 17","watts":800.0,"until":1760000600.0}],"export_terms":[]},"why":"over by 212 W","actions":[{"resource":"lamp-1","number":1,"setting":{"on":false,"level":null,"setpoint_w":null,"free":false},"effect_w":-60.0,"target_w":0.0,"source":"shed","words":"lamp-1 off"}],"kept":[{"resource":"ess-2","reason":"never shed"}],"event_id":17,"id":1,"margin_w":null}');
INSERT INTO "decision" VALUES(2,2,'|ess-2|','{"rule":"shed","at":1760000000.0,"power_w":1012.0,"limit":{"import_w":800.0,"export_w":null,"phase_a":[],"terms":[{"source":"event 17","watts":800.0,"until":1760000600.0}],"export_terms":[]},"why":"over by 212 W","actions":[{"resource":"ess-2","number":1,"setting":{"on":false,"level":null,"setpoint_w":null,"free":false},"effect_w":-60.0,"target_w":0.0,"source":"shed","words":"ess-2 off"}],"kept":[],"event_id":17,"id":2,"margin_w":null}');
CREATE TABLE device (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
INSERT INTO "device" VALUES(1,'{"resource":{"name":"lamp-1","number":1,"kind":"led","priority":1,"switch":true,"levels":true,"setpoint":null,"rated_w":60.0,"latency_s":2.0,"min_on_s":0.0,"min_off_s":0.0,"never_shed":false,"gives":false,"safe":{"on":null,"level":null,"setpoint_w":null,"free":false},"lease_s":60.0,"floor_soc":20.0,"ceiling_soc":95.0},"link":"mqtt","address":"","hold":{"wish":{"on":true,"level":9,"setpoint_w":null,"free":false},"wish_w":60.0,"held":{"on":false,"level":null,"setpoint_w":null,"free":false},"held_seq":4,"switched_at":1759999900.0}}');
INSERT INTO "device" VALUES(2,'{"resource":{"name":"ess-2","number":2,"kind":"ess","priority":5,"switch":true,"levels":false,"setpoint":{"min_w":-500.0,"max_w":500.0,"step_w":10.0,"ramp_w_s":0.0},"rated_w":0.0,"latency_s":2.0,"min_on_s":0.0,"min_off_s":0.0,"never_shed":false,"gives":true,"safe":{"on":null,"level":null,"setpoint_w":null,"free":false},"lease_s":60.0,"floor_soc":20.0,"ceiling_soc":95.0},"link":"coap","address":"192.0.2.7","hold":null}');
CREATE TABLE event (
    upstream TEXT NOT NULL, event_id INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (upstream, event_id)
) WITHOUT ROWID;
INSERT INTO "event" VALUES('ems',17,'{"event":{"upstream":"ems","event_id":17,"modification":0,"start":1760000000.0,"end":1760003600.0,"limit_w":800.0,"direction":"import","restore_delay_s":12.5},"opted":true}');
CREATE TABLE granted (
    upstream TEXT NOT NULL, resource TEXT NOT NULL, watts REAL NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (upstream, resource, watts, until)
) WITHOUT ROWID;
INSERT INTO "granted" VALUES('ems','lamp-1',50.0,1760000300.0);
CREATE TABLE loan (
    peer TEXT NOT NULL, loan_id INTEGER NOT NULL, watts REAL NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (peer, loan_id)
) WITHOUT ROWID;
CREATE TABLE outbox_note (
    upstream TEXT PRIMARY KEY, lost INTEGER NOT NULL, waiting INTEGER NOT NULL, appended INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO "outbox_note" VALUES('ems',0,2,2199023255556);
CREATE TABLE value (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "value" VALUES('last_threshold_w','800.000');
COMMIT;
PRAGMA user_version=1;
