package indexer

import "strings"

// Why a layer has no zTOC. A reason in a row is one of these words, alone or
// followed by ": " and a detail for people; ReasonWord tells them apart.
const (
	ReasonTooSmall        = "too-small"        // smaller than the rule's MinLayerSize
	ReasonZstd            = "zstd"             // compressed with zstd, which SOCI has no format for
	ReasonEncrypted       = "encrypted"        // media type says so
	ReasonForeign         = "foreign"          // not distributable, and of no known compression
	ReasonUnsupportedType = "unsupported-type" // not a layer's media type, or one nobody knows
	ReasonMalformed       = "malformed"        // the builder refused its bytes; the detail says what and where
	ReasonTooLarge        = "too-large"        // beyond Limits; the detail says which
	ReasonClientRejects   = "client-rejects"   // clients would refuse the zTOC
	ReasonRule            = "rule"             // no rule wants the image
	ReasonPlatform        = "platform"         // the rule wants other platforms
	ReasonImageTooSmall   = "image-too-small"  // all layers together are smaller than the rule's MinImageSize
)

// Reasons are all the words that a reason can begin with.
var Reasons = []string{
	ReasonTooSmall, ReasonZstd, ReasonEncrypted, ReasonForeign,
	ReasonUnsupportedType, ReasonMalformed, ReasonTooLarge, ReasonClientRejects, ReasonRule, ReasonPlatform, ReasonImageTooSmall,
}

// unfit reports a reason that is about what a layer is, and not one that a rule
// gives: no other rule would have it indexed.
func unfit(reason string) bool {
	switch ReasonWord(reason) {
	case ReasonZstd, ReasonEncrypted, ReasonForeign, ReasonUnsupportedType:
		return true
	}
	return false
}

// ReasonWord cuts the detail off a reason: "malformed: as gzip, …" is "malformed".
func ReasonWord(reason string) string {
	word, _, _ := strings.Cut(reason, ":")
	return word
}
