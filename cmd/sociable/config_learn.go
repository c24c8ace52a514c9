package main

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/learn"
	"github.com/sociable/sociable/proxy"
	"github.com/sociable/sociable/referrers"
	"github.com/sociable/sociable/storage"
)

// LearnConfig is what is learnt from the starts of lazily loading clients.
type LearnConfig struct {
	Enabled       bool          `yaml:"enabled"`
	Window        time.Duration `yaml:"window"`         // a start's reads are those within it from its first
	MinStarts     int           `yaml:"min_starts"`     // a round has so many at least
	SamplePercent int           `yaml:"sample_percent"` // of the clients are not offered what was learnt
	Round         time.Duration `yaml:"round"`          // what was learnt is not changed again for so long
	Expire        time.Duration `yaml:"expire"`         // what no start confirmed for so long is forgotten
	MaxBytes      Bytes         `yaml:"max_bytes"`      // compressed, of an image, that may be learnt
}

func defaultLearn() LearnConfig {
	return LearnConfig{
		Enabled: true, Window: 25 * time.Second, MinStarts: 2, SamplePercent: 10,
		Round: 24 * time.Hour, Expire: 30 * 24 * time.Hour, MaxBytes: 512 << 20,
	}
}

func (c *Config) checkLearn(bad *findings) {
	l := &c.Learn
	if l.Window < time.Second || l.Window > 10*time.Minute {
		bad.add(c.origin("learn.window"), "learn.window: want between 1s and 10m; clients read what nobody asked for from 30s on")
	}
	if l.MinStarts < 1 || l.MinStarts > 16 {
		bad.add(c.origin("learn.min_starts"), "learn.min_starts: want between 1 and 16")
	}
	if l.SamplePercent < 0 || l.SamplePercent > 100 {
		bad.add(c.origin("learn.sample_percent"), "learn.sample_percent: want between 0 and 100")
	}
	if l.Round < time.Second {
		bad.add(c.origin("learn.round"), "learn.round: want at least 1s")
	}
	if l.Expire < l.Round {
		bad.add(c.origin("learn.expire"), "learn.expire: want at least learn.round, %s: what was learnt would go before another round could confirm it", formatDuration(l.Round))
	}
	if l.MaxBytes < 1 {
		bad.add(c.origin("learn.max_bytes"), "learn.max_bytes: want at least 1 byte; to learn nothing write learn.enabled: false")
	}
}

// buildLearner is nil where nothing is to be learnt.
func buildLearner(cfg *Config, store *storage.Store, ix *indexer.Indexer, warm learn.Warm, acc *door, log *slog.Logger, reg prometheus.Registerer) *learn.Learner {
	l := &cfg.Learn
	if !l.Enabled {
		return nil
	}
	return learn.New(learn.Options{
		Store: store, Publish: ix.Learnt, Warm: warm, Who: acc.Who, Logger: log, Registerer: reg,
		Policy: learn.Policy{
			Window: l.Window, MinStarts: l.MinStarts, Sample: l.SamplePercent,
			Round: l.Round, Expire: l.Expire, MaxBytes: int64(l.MaxBytes),
		},
	})
}

// startsOf and offersOf give a Learner as others see it, nil for none.
func startsOf(l *learn.Learner) proxy.Starts {
	if l == nil {
		return nil
	}
	return l
}

func offersOf(l *learn.Learner) referrers.Offers {
	if l == nil {
		return nil
	}
	return l
}
