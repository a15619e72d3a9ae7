-- SPDX-License-Identifier: MIT
-- rows.sql: a table, two indexes, joins and groups in memory.
PRAGMA temp_store = MEMORY;
CREATE TABLE item(id INTEGER PRIMARY KEY, owner INTEGER, size INTEGER, name TEXT);
WITH RECURSIVE n(i, r) AS (SELECT 1, 12345 UNION ALL SELECT i + 1, (r * 1103515245 + 12345) % 2147483648 FROM n WHERE i < 200000)
INSERT INTO item SELECT i, r % 500, (r / 7) % 100000, 'item ' || (r % 9991) || substr('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx', 1, r % 30) FROM n;
CREATE INDEX item_owner ON item(owner, size);
CREATE INDEX item_name ON item(name);
SELECT count(*), sum(size), min(name), max(name) FROM item;
SELECT owner, count(*), sum(size), length(group_concat(name)) FROM item GROUP BY owner ORDER BY 3 DESC LIMIT 5;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name AND a.id < b.id;
SELECT name, count(*) FROM item GROUP BY name ORDER BY 2 DESC, 1 LIMIT 5;
