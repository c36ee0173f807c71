package coverage

// The fixed parts of the page.
const (
	head = `<!-- Written by internal/catalog/coverage; run make generate. -->

# What is backed up

One line a workload: the configuration types of Understudy, those of them that only
a user can read, and how many of the rows of others they cover. ` + "`understudy catalog`" + `
lists the types.

| workload | types | user only | reference product | EntraExporter | IntuneCD |
|---|---:|---:|---:|---:|---:|
`
	documentedText = `
Microsoft documents %d paths of tenant configuration in Graph (every depth, most of
them below a few objects); %d of them are read. Of the other %d the next section says
why not.
`
	unreadHead = `
## What is not read

Paths of tenant configuration in Microsoft Graph that nothing reads, with how many of the
facts each line is for. ` + "`*` is any part of a segment, `**`" + ` any number of them.

| why | paths | |
|---|---:|---|
`
	limitsHead = `
## What is read in part

| types | |
|---|---|
`
	referenceHead = `
## The reference product

| workload | configuration | namespace | read by |
|---|---|---|---|
`
	otherReferenceHead = `
Its other configurations are not in Microsoft Graph:

| API | configurations | |
|---|---:|---|
`
	entraExporterHead = `
## EntraExporter

| name | request | read by |
|---|---|---|
`
	intuneCDHead = `
## IntuneCD

| name | request | read by |
|---|---|---|
`
)
