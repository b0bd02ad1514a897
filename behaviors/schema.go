package behaviors

// Schema returns the verb's arguments as a JSON Schema that is valid in all drafts. It is encoded
// with encoding/json.
func (v Verb) Schema() map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, p := range v.Params {
		properties[p.Name] = p.schema()
		if p.Required {
			required = append(required, p.Name)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required}
}

func (p Param) schema() map[string]any {
	s := map[string]any{"type": string(p.Kind), "description": p.About}
	switch p.Kind {
	case OneOf:
		s["type"], s["enum"] = "string", p.Values
	case Text:
		s["maxLength"] = p.Max // JSON Schema counts characters, lintod bytes: a longer text is rejected later
	case Whole, Number:
		s["minimum"], s["maximum"] = p.Min, p.Max
	}
	return s
}
