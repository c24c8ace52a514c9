package indexer

import "slices"

// ruleSet is the rules that are in force at one time.
type ruleSet struct {
	rules      []Rule
	converting bool // one of them has images converted
	pushing    bool // one of them has something pushed
}

func newRuleSet(rules []Rule) *ruleSet {
	s := &ruleSet{rules: slices.Clone(rules)}
	for i := range s.rules {
		s.converting = s.converting || s.rules[i].converts()
		s.pushing = s.pushing || s.rules[i].pushesV1() || s.rules[i].pushesV2()
	}
	return s
}

// SetRules has other rules apply from now on, also to images that are stored:
// each is looked at again behind this call, by Run, as if its manifest came by.
// What is listed stays until what replaces it is there.
func (x *Indexer) SetRules(rules []Rule) {
	x.rules.Store(newRuleSet(rules))
	wake(x.toResume)
}

// ruleFor is the first rule that applies to n; nil when none does.
func (x *Indexer) ruleFor(n named) *Rule {
	rules := x.rules.Load().rules
	if i := ruleFor(rules, n); i >= 0 {
		return &rules[i]
	}
	return nil
}
