-- SPDX-License-Identifier: MIT
-- A million rows, indexes, joins; all numbers come from a small generator in SQL, so that every run prints the same.
.bail on
.mode csv
PRAGMA cache_size = -60000;
PRAGMA temp_store = MEMORY;
PRAGMA journal_mode = MEMORY;
CREATE TABLE item(id INTEGER PRIMARY KEY, owner INTEGER, size INTEGER, name TEXT);
CREATE TABLE owner(id INTEGER PRIMARY KEY, name TEXT, grp INTEGER);
BEGIN;
WITH RECURSIVE n(i, r) AS (SELECT 1, 12345 UNION ALL SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < 1000000)
INSERT INTO item SELECT i, r % 5000, (r / 7) % 100000, 'item ' || (r % 99991) || substr('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx', 1, r % 40) FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4999)
INSERT INTO owner SELECT i, 'owner ' || (i * 7919 % 5000), i % 37 FROM n;
COMMIT;
CREATE INDEX item_owner ON item(owner, size);
CREATE INDEX item_name ON item(name);
ANALYZE;
SELECT count(*), sum(size), min(name), max(name), sum(length(name)) FROM item;
SELECT o.grp, count(*), sum(i.size), max(i.name) FROM item i JOIN owner o ON o.id = i.owner GROUP BY o.grp ORDER BY o.grp;
SELECT o.name, count(*) AS c, group_concat(i.id) FROM owner o JOIN item i ON i.owner = o.id WHERE i.size < 700 GROUP BY o.id ORDER BY c DESC, o.name LIMIT 50;
SELECT name, count(*) FROM item WHERE name BETWEEN 'item 2' AND 'item 3' GROUP BY name HAVING count(*) > 14 ORDER BY 2 DESC, 1 LIMIT 30;
SELECT a.id, b.id FROM item a JOIN item b ON a.name = b.name AND a.id < b.id WHERE a.owner < 3 ORDER BY a.id, b.id LIMIT 200;
BEGIN;
DELETE FROM item WHERE id % 3 = 0;
UPDATE item SET name = name || ' again' WHERE id % 10 = 1;
COMMIT;
SELECT size, name FROM item ORDER BY size DESC, name, id LIMIT 100 OFFSET 100000;
VACUUM;
PRAGMA quick_check(1);
SELECT count(*), sum(length(name)) FROM item;
