package upstream

// Follow has c, which is to take the place of old, share what bounds old's
// requests: so transfers that go on through old count for c. With health, c goes
// on with what was found out about the endpoints that both have, too: how long
// they are to be left alone, and that they don't answer. That is for one that asks them in the same way, in
// the same name. It is called before c is used, and changes nothing until Apply is.
func (c *Client) Follow(old *Client, health bool) {
	c.budget, c.all, c.bulk = old.budget, old.all, old.bulk
	for _, e := range c.ends {
		for _, was := range old.ends {
			if was.root != e.root || was.prefix != e.prefix {
				continue
			}
			e.rate = was.rate
			if health {
				e.gate = was.gate
			}
		}
	}
}

// Apply puts c's own bounds in force for what it shares with the client that it
// Follows: transfers that are under way, too.
func (c *Client) Apply() {
	c.budget.set(c.opt.BytesPerSecond)
	c.all.set(c.opt.MaxConnections)
	c.bulk.set(c.opt.MaxTransfers)
	for _, e := range c.ends {
		e.rate.set(c.opt.RequestsPerMinute)
		e.gate.apply(c.opt.gate())
	}
}
