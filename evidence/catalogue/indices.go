package catalogue

import "fmt"

// mirrorIndices find the hits of a filter among those of all hosts of a fleet. A host does without: there are fewer hits, and
// in a flood it has to write them quickly.
const mirrorIndices = `
CREATE INDEX IF NOT EXISTS hits_id ON hits (id); -- to count them: the table itself has their documents, too
CREATE INDEX IF NOT EXISTS hits_uid ON hits (uid);
CREATE INDEX IF NOT EXISTS hits_rule ON hits (rule);
CREATE INDEX IF NOT EXISTS hits_container_name ON hits (doc->>'$.container.name') WHERE doc->>'$.container.name' IS NOT NULL;
CREATE INDEX IF NOT EXISTS hits_container_id ON hits (doc->>'$.container.id') WHERE doc->>'$.container.id' IS NOT NULL;
CREATE INDEX IF NOT EXISTS hits_outer_name ON hits (doc->>'$.container.parent.name') WHERE doc->>'$.container.parent.name' IS NOT NULL;
CREATE INDEX IF NOT EXISTS hits_outer_id ON hits (doc->>'$.container.parent.id') WHERE doc->>'$.container.parent.id' IS NOT NULL;
CREATE INDEX IF NOT EXISTS hits_feed ON hits (doc->>'$.threat.feed.name') WHERE doc->>'$.threat.feed.name' IS NOT NULL;
CREATE INDEX IF NOT EXISTS hits_list ON hits (doc->>'$.culprit.listed.file') WHERE doc->>'$.culprit.listed.file' IS NOT NULL;
`

// inContainer are the hits of a container, as Place.conditions says it; onList are those of a list. Only a mirror has their indices.
const (
	inContainer = `SELECT id FROM hits WHERE doc->>'$.container.name' = ?1 UNION ALL SELECT id FROM hits WHERE doc->>'$.container.parent.name' = ?1
		UNION ALL SELECT id FROM hits WHERE doc->>'$.container.id' >= ?1 AND doc->>'$.container.id' < ?1 || char(1114111)
		UNION ALL SELECT id FROM hits WHERE doc->>'$.container.parent.id' >= ?1 AND doc->>'$.container.parent.id' < ?1 || char(1114111)`
	onList = "SELECT id FROM hits WHERE doc->>'$.threat.feed.name' = ?1 UNION ALL SELECT id FROM hits WHERE doc->>'$.culprit.listed.file' = ?1"
)

// index gives a mirror its indices.
func (c *Catalogue) index() error {
	if c.own().indexed() {
		return nil
	}
	var hits bool
	if err := c.db.QueryRow("SELECT EXISTS (SELECT 1 FROM hits)").Scan(&hits); err == nil && hits {
		c.log.Info("the mirror gets its indices; with millions of hits this takes minutes")
	}
	if _, err := c.db.Exec("BEGIN;" + mirrorIndices + "COMMIT;"); err != nil {
		return fmt.Errorf("index the mirror: %w", err)
	}
	return nil
}

// indexed reports whether the catalogue has the indices of a mirror.
func (r *Reader) indexed() (is bool) {
	err := r.db.QueryRowContext(r.ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'hits_list')").Scan(&is)
	return err == nil && is
}
