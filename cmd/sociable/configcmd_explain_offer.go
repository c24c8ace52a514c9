package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sociable/sociable/indexer"
	"github.com/sociable/sociable/internal/oci"
	"github.com/sociable/sociable/internal/upstream"
	"github.com/sociable/sociable/web"
)

// offer is what is offered of an image in its repository.
type offer struct {
	rule   *indexer.Rule // of the repository; nil: none applies
	v1, v2 bool
	none   string     // why neither is
	tags   []string   // that lead to the image, and may have a converted form
	suffix bool       // all that lead to it are those of a converted form
	taken  []takenTag // of these, with the suffix
}

// takenTag is a tag that a v2 image would be at, and that leads to something at the
// upstream that was not made here.
type takenTag struct {
	tag    string
	digest digest.Digest
}

// offer puts what an operator asked for, or withdrew, and what the upstream has over
// the rule.
func (e *explainer) offer(ctx context.Context, repo oci.Repo, rule *indexer.Rule, facts web.Facts) offer {
	of := offer{rule: rule, tags: slices.DeleteFunc(slices.Clone(facts.Tags), func(tag string) bool { return !indexer.Converts(tag) })}
	of.suffix = len(facts.Tags) > 0 && len(of.tags) == 0
	if nowhere(&facts) {
		v1, v2 := rule.Publishes()
		of.v1, of.v2 = v1, v2 && !of.suffix
	}
	withdrawn, soci := len(facts.Images) > 0, facts.SOCI
	for i := range facts.Images {
		p := &facts.Images[i]
		holds := rule
		if p.Image != nil {
			holds = indexer.Offered(rule, p.Image, repo)
			withdrawn = withdrawn && p.Image.WithdrawnFrom(repo)
		} else {
			withdrawn = false
		}
		v1, v2 := holds.Publishes()
		of.v1, of.v2 = of.v1 || v1 && !p.SOCI, of.v2 || v2 && !facts.SOCI
		soci = soci && (p.SOCI || !p.Known)
	}
	switch {
	case soci:
		of.v1, of.none = false, "none: it is a SOCI index, or carries one, and is served as it is"
	case withdrawn:
		of.none = "none: withdrawn with sociable index rm"
	case rule == nil:
		of.none = "none: no rule applies"
	default:
		of.none = "none: the layers are indexed for ranges out of their spans alone"
	}
	if _, pushed := rule.Pushes(); of.v2 && (rule.V2At != indexer.V2AtTag || pushed) {
		of.taken = e.takenTags(ctx, repo, facts)
	}
	return of
}

// takenTags asks the upstream which of the tags with the suffix are its own, and where
// it is not to be asked, or does not say, what is known here.
func (e *explainer) takenTags(ctx context.Context, repo oci.Repo, facts web.Facts) (taken []takenTag) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	beside := facts.Beside
	for i := len(beside); i < len(facts.Tags); i++ { // of the upstream alone
		beside = append(beside, web.TagFacts{Tag: facts.Tags[i] + indexer.ConvertedSuffix})
	}
	for i := range beside {
		f := &beside[i]
		if !indexer.Converts(strings.TrimSuffix(f.Tag, indexer.ConvertedSuffix)) {
			continue
		}
		d := f.Digest
		if client, err := e.client(repo); err == nil && !e.offline {
			now, err := client.HeadManifest(ctx, repo.Name, oci.Reference{Tag: f.Tag})
			switch {
			case upstream.IsNotFound(err):
				d = ""
			case err == nil:
				d = now.Digest
			}
		}
		if d != "" && !slices.Contains(f.Made, d) {
			taken = append(taken, takenTag{f.Tag, d})
		}
	}
	return taken
}

// nothing has of offer none of what a rule says where no layer of any of the images
// is indexed, or was.
func (of *offer) nothing(images []ExplainedImage) {
	if len(images) == 0 || !of.v1 && !of.v2 {
		return
	}
	for i := range images {
		m := &images[i]
		unknown := m.Note != "" && !m.asItIs
		if unknown || slices.ContainsFunc(m.Layers, func(l ExplainedLayer) bool { return l.Indexed || strings.HasPrefix(l.Now, "indexed") }) {
			return
		}
	}
	of.v1, of.v2, of.taken, of.none = false, false, nil, "none: no layer of it is indexed"
}

// at names the tags at which a v2 image is, one of the upstream's own left out; ""
// where none leads to it.
func (of *offer) at(suffix string) string {
	var at []string
	for _, tag := range of.tags {
		tag += suffix
		if suffix == "" || !slices.ContainsFunc(of.taken, func(t takenTag) bool { return t.tag == tag }) {
			at = append(at, tag)
		}
	}
	return strings.Join(at, ", ")
}

// text says what becomes of finished zTOCs.
func (of *offer) text() string {
	var forms []string
	if of.v1 {
		forms = append(forms, "v1, a referrer of each platform's manifest")
	}
	if of.v2 {
		suffix := indexer.ConvertedSuffix
		if of.rule.V2At == indexer.V2AtTag {
			suffix = ""
		}
		forms = append(forms, of.v2Text(suffix))
	}
	if len(forms) == 0 {
		return of.none
	}
	return strings.Join(forms, "; ")
}

func (of *offer) v2Text(suffix string) string {
	switch at := of.at(suffix); {
	case of.suffix:
		return "no v2, as its tag has the " + indexer.ConvertedSuffix + " of a converted image already"
	case len(of.tags) == 0:
		return "v2, once a tag leads to it"
	case at == "":
		return "no v2, as the upstream has the tag for something else"
	default:
		return "v2, at " + at
	}
}

// upstreamText says which of what is offered goes to the upstream, or why not.
func (of *offer) upstreamText(whyNot string) string {
	v1, v2 := of.rule.Pushes()
	var forms []string
	if v1 && of.v1 {
		forms = append(forms, "v1, by the referrers API or under the fallback tag")
	}
	if v2 && of.v2 {
		forms = append(forms, of.v2Text(indexer.ConvertedSuffix))
	}
	switch {
	case len(forms) == 0:
		return "nothing"
	case whyNot != "":
		return "nothing: " + whyNot
	}
	return strings.Join(forms, "; ")
}

// withoutRule says what holds of an image to which no rule applies.
func withoutRule(repo oci.Repo, facts web.Facts, images []ExplainedImage) string {
	for i := range facts.Images {
		img := facts.Images[i].Image
		if img != nil && img.Asked.In(repo) && !img.WithdrawnFrom(repo) {
			return "none applies: what was asked for with sociable index create holds, see the notes"
		}
	}
	if slices.ContainsFunc(images, func(x ExplainedImage) bool { return len(x.Instead) > 0 }) {
		return "none applies: no index of it is offered in " + repo.String() + ", see the notes"
	}
	return "none applies: it is not indexed"
}
