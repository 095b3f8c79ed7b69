/** One line of a plot. */
export interface Series {
  readonly mark: string
  /** x rising; points with y of 0 or below have no place on a logarithmic scale and are left out. */
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface PlotOptions {
  /** Columns and rows inside the frame. */
  readonly width?: number
  readonly height?: number
  readonly xLabel: (x: number) => string
}

/** Room for `1e-10` in front of the frame. */
const LABEL_WIDTH = 6

const pad = (text: string): string => text.padStart(LABEL_WIDTH)

/** Rows between two labels. */
const LABEL_EVERY = 3

/** A plot in characters, y logarithmic; later series are drawn over earlier ones. Empty where there is nothing to show. */
export function plot(series: readonly Series[], { width = 64, height = 16, xLabel }: PlotOptions): string[] {
  const points = series.flatMap(({ points: all }) => all).filter(([, y]) => y > 0)
  if (points.length === 0) return []
  const xs = points.map(([x]) => x)
  const ys = points.map(([, y]) => Math.log10(y))
  const [left, right] = [Math.min(...xs), Math.max(...xs)]
  const [bottom, top] = [Math.floor(Math.min(...ys)), Math.ceil(Math.max(...ys))]
  const cells = Array.from({ length: height }, () => Array<string>(width).fill(' '))
  const share = (value: number, low: number, high: number) => (high === low ? 0 : (value - low) / (high - low))
  for (const { mark, points: all } of series)
    for (const [x, y] of all) {
      if (!(y > 0)) continue
      const row = Math.round((1 - share(Math.log10(y), bottom, top)) * (height - 1))
      cells[row]![Math.round(share(x, left, right) * (width - 1))] = mark
    }
  const rows = cells.map((row, i) => {
    const value = 10 ** (top - share(i, 0, height - 1) * (top - bottom))
    return `${pad(i % LABEL_EVERY === 0 ? value.toExponential(0) : '')} |${row.join('').trimEnd()}`
  })
  const [from, to] = [xLabel(left), xLabel(right)]
  return [...rows, `${pad('')} +${'-'.repeat(width)}`, `${pad('')}  ${from}${to.padStart(width - from.length)}`]
}
