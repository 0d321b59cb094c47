/** A page: its title, its content, and what it does once it stands in the document. `ready` shows its own errors: nobody waits for it. */
export interface Page { title: string, content: Node[], ready?: () => void | Promise<void> }

/** `left` aborts when another page is shown. */
export interface Visit { id: string, query: URLSearchParams, left: AbortSignal }
