package web

// OperatorError is err with the status that it has over HTTP, for those who give
// an operator's commands another face.
func OperatorError(err error) error { return operatorError(err) }
