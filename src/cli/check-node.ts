import { complaintAboutNode } from '../node/host/node-range.js'

/** Said before anything else is loaded: what fails later on such a Node.js fails in its own words. */
const complaint = complaintAboutNode(process.versions.node)
if (complaint !== undefined) process.stderr.write(`warning: ${complaint.sentence}\n`)
