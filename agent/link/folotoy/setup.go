package folotoy

import "lintod/agent/link"

// Setup returns the questions of `lintod setup` for this link.
func Setup() link.Setup {
	return link.Setup{
		Name: Name, Title: "FoloToy (an integration that answers and plays)",
		Questions: append([]link.Question{link.BrokerQuestion()}, link.AccountQuestions()...),
	}
}
