/** Virtual time: things happen in the order of their moments, and of their planning where moments are equal. */
type Planned<T> = Readonly<{ atMs: number; order: number; what: T }>;

export class TimeLine<T> {
  now = 0;
  #order = 0;
  /** A binary heap. */
  readonly #heap: Planned<T>[] = [];

  at(atMs: number, what: T): void {
    const heap = this.#heap;
    const planned = { atMs, order: this.#order++, what };
    let i = heap.length;
    heap.push(planned);
    while (i > 0) {
      const parent = (i - 1) >>> 1;
      if (!sooner(planned, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = planned;
  }

  /** Moves to the next thing planned and returns it. */
  next(): T | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined) return undefined;
    if (heap.length > 0) {
      let i = 0;
      for (;;) {
        let child = 2 * i + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && sooner(heap[child + 1]!, heap[child]!)) child += 1;
        if (!sooner(heap[child]!, last)) break;
        heap[i] = heap[child]!;
        i = child;
      }
      heap[i] = last;
    }
    this.now = first.atMs;
    return first.what;
  }
}

function sooner(a: Planned<unknown>, b: Planned<unknown>): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
