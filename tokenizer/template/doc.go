// Package template renders conversations into prompts by the chat template that a
// model's file carries: a Jinja template, as Hugging Face transformers renders it.
//
// The language is github.com/ardanlabs/jinja's. Three things are added before its
// parser sees a template (see lower.go and budget.go):
//
//   - White space around tags is taken away as transformers configures Jinja2
//     (trim_blocks, lstrip_blocks, no trailing newline), tag by tag.
//   - Loops, macros, assignments and output report to a budget, so that a template,
//     which comes from whoever made the model's file, can neither hang the gateway
//     nor fill its memory.
//   - raise_exception, strftime_now and range are ours: the first becomes a
//     RequestError, the second reads Template.Now, the third is bounded.
//
// # What people wrote stays text
//
// A message that spells a control token ("<|im_end|>") must not end the message.
// Before rendering, each such spelling in a conversation is put between two marks
// (noncharacters that occur nowhere in it); afterwards the prompt is cut at the
// marks into tokenizer.Segments. The template may trim, split or compare contents
// as it likes. Marks that it has separated from their spelling are dropped.
//
// # Limits
//
// A message's content is a string: arrays of text parts are joined before they
// come here, and templates that look into parts take their string branch.
package template
