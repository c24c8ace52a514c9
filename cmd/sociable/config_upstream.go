package main

// checkUpstreamAmounts looks at the numbers and times of an upstream.
func (c *Config) checkUpstreamAmounts(name string, bad *findings) {
	u, path := c.Upstreams[name], "upstreams."+name
	c.checkPositive(path+".tag_timeout", u.TagTimeout, bad)
	c.checkPositive(path+".stall_timeout", u.StallTimeout, bad)
	c.checkPositive(path+".dial_timeout", u.DialTimeout, bad)
	c.checkPositive(path+".header_timeout", u.HeaderTimeout, bad)
	c.checkPositive(path+".breaker_pause", u.BreakerPause, bad)
	for _, n := range []struct {
		key        string
		value, min int
		meaning    string // of the least
	}{
		{"max_connections", u.MaxConnections, 1, ""},
		{"max_transfers", u.MaxTransfers, 0, ", which is seven eighths of max_connections"},
		{"retries", u.Retries, 0, ", which is never"},
		{"requests_per_minute", u.RequestsPerMinute, 0, ", which is any number"},
		{"breaker_failures", u.BreakerFailures, 1, ""},
	} {
		if p := path + "." + n.key; n.value < n.min {
			bad.add(c.origin(p), "%s: want at least %d%s", p, n.min, n.meaning)
		}
	}
	if p := path + ".max_transfers"; u.MaxTransfers > u.MaxConnections && u.MaxConnections > 0 {
		bad.add(c.origin(p), "%s: %d transfers would need more than the %d of max_connections", p, u.MaxTransfers, u.MaxConnections)
	}
}
