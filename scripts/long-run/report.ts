import { cpus, loadavg, totalmem } from 'node:os'
import type { LongReport, Machine, StepResult } from './step.js'

export const thisMachine = (): Machine => ({
  node: process.versions.node,
  platform: `${process.platform} ${process.arch}`,
  processor: cpus()[0]?.model.trim() ?? process.arch,
  cores: cpus().length,
  memoryGb: Math.round(totalmem() / 2 ** 30),
  loadBefore: Number(loadavg()[0]?.toFixed(1) ?? 0)
})

export const allWell = ({ steps }: Pick<LongReport, 'steps'>): boolean =>
  steps.every(({ complaints }) => complaints.length === 0)

const show = (value: number | string): string => {
  if (typeof value === 'string') return value
  if (Number.isInteger(value)) return value.toLocaleString('en')
  return Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toFixed(3)))
}

function stepText({ name, what, command, seconds, facts, complaints }: StepResult): string {
  return [
    `## ${name}: ${complaints.length === 0 ? 'held' : 'BROKEN'}`,
    '',
    `${what[0]?.toUpperCase()}${what.slice(1)}. ${show(Math.round(seconds))} s, \`${command}\`.`,
    '',
    '| | |',
    '|---|---|',
    ...Object.entries(facts).map(([fact, value]) => `| ${fact} | ${show(value)} |`),
    ...(complaints.length === 0 ? [] : ['', '```', ...complaints, '```'])
  ].join('\n')
}

/** The page of docs/results. */
export function reportText(report: LongReport): string {
  const { day, machine, seconds, steps } = report
  const { node, platform, processor, cores, memoryGb, loadBefore } = machine
  return `${[
    '# The long run',
    '',
    `What \`npm run test:long\` found the last time it was run as a whole, on ${day}: ${allWell(report) ? 'everything held' : 'NOT everything held'}. ` +
      `${show(Math.round(seconds / 60))} minutes on ${processor}, ${cores} cores, ${memoryGb} GB, ${platform}, Node.js ${node}; ` +
      `load ${loadBefore} in the minute before, so much else wanted the cores.`,
    '',
    steps.map(stepText).join('\n\n')
  ].join('\n')}\n`
}
