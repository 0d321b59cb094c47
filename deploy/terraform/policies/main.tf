# The two policies as text. This module needs no provider and no credentials, so a test can apply it. The test compares the result with
# `npm run own-policies`. deploy/terraform/generate.ts generates the templates from the same code.

terraform {
  required_version = ">= 1.3"
}

variable "partition" {
  description = "JOB_ACCESS_PARTITION."
  type        = string
  default     = "aws"
}

variable "account_id" {
  type = string
  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account id has 12 digits."
  }
}

variable "path" {
  description = "JOB_ACCESS_PATH."
  type        = string
  default     = "/job-access/"
  validation {
    condition     = can(regex("^/([\\w+=,.@-]+/)+$", var.path))
    error_message = "Begins and ends with a slash, and is not the root: everything below it is the service's."
  }
}

variable "user_prefix" {
  description = "JOB_ACCESS_USER_PREFIX."
  type        = string
  default     = "ja"
  validation {
    condition     = can(regex("^[a-z0-9]{1,12}$", var.user_prefix))
    error_message = "At most 12 lower-case letters and digits."
  }
}

variable "boundary_arn" {
  type = string
}

variable "buckets" {
  description = "Buckets, as in JOB_ACCESS_ALLOWED_BUCKETS. Empty: any."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for name in var.buckets : can(regex("^[a-z0-9.-]*[*]?$", name))])
    error_message = "A wildcard only at the end of a name: in an ARN it also spans the slash after the bucket's name, and so other buckets."
  }
}

variable "kms_keys" {
  description = "ARNs of KMS keys, as in JOB_ACCESS_ALLOWED_KMS_KEYS. Empty: any."
  type        = list(string)
  default     = []
}

variable "session_roles" {
  description = "Roles of JOB_ACCESS_PROFILES, in their order."
  type        = list(object({ arn = string, revocable = bool }))
  default     = []
}

locals {
  service  = jsondecode(templatefile("${path.module}/service.json.tftpl", { partition = var.partition, account_id = var.account_id, path = var.path, user_prefix = var.user_prefix, boundary_arn = var.boundary_arn }))
  boundary = jsondecode(templatefile("${path.module}/boundary.json.tftpl", { suffix = var.partition == "aws-cn" ? "amazonaws.com.cn" : "amazonaws.com" }))

  # Statements whose resources are lists of the configuration. A statement with an empty list is left out.
  lists = {
    IssueSessions                   = [for role in var.session_roles : role.arn]
    RevokeSessions                  = [for role in var.session_roles : role.arn if role.revocable]
    ReadSessionRoles                = [for role in var.session_roles : role.arn if role.revocable]
    JobsUseKeysThroughObjectStorage = length(var.kms_keys) > 0 ? var.kms_keys : ["*"]
    JobsUseObjectStorage = flatten([
      for name in length(var.buckets) > 0 ? var.buckets : ["*"] :
      ["arn:${var.partition}:s3:::${name}", "arn:${var.partition}:s3:::${name}/*"]
    ])
  }
}

output "service" {
  value = jsonencode(merge(local.service, {
    Statement = [for statement in local.service.Statement : merge(statement, { Resource = try(local.lists[statement.Sid], statement.Resource) })
    if length(try(local.lists[statement.Sid], statement.Resource)) > 0]
  }))
}

output "boundary" {
  value = jsonencode(merge(local.boundary, {
    Statement = [for statement in local.boundary.Statement : merge(statement, { Resource = try(local.lists[statement.Sid], statement.Resource) })]
  }))
}
