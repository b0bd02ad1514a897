package automation

import "lintod/agent/link"

// Setup returns the questions of `lintod setup` for this link.
func Setup() link.Setup {
	account := link.AccountQuestions()
	for i := range account {
		account[i].Flag = "automation-" + account[i].Flag
	}
	account[0].Usage, account[1].Usage = "`NAME` of the account there", "`FILE` with the password of that account"
	broker := link.BrokerQuestion()
	broker.Flag, broker.Usage = "automation-broker", "`ADDRESS` of the broker of your home automation"
	return link.Setup{Name: Name, Title: "home automation", Additional: true, Questions: append([]link.Question{broker}, account...)}
}
